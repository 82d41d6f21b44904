// What every instruction set's vectors share.

#pragma once

#include <cstdint>
#include <cstring>

// Always inlined, so that no copy of a function compiled for one instruction set is ever called from another's code.
#define INLINE [[gnu::always_inline]] static inline

// Four activations as the 32 bits that a dot product repeats in every lane.
INLINE int32_t load_four(const int8_t *p) {
    int32_t four;
    std::memcpy(&four, p, sizeof four);
    return four;
}

// Two widened ones.
INLINE int32_t load_two(const int16_t *p) {
    int32_t two;
    std::memcpy(&two, p, sizeof two);
    return two;
}
