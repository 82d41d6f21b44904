// The vectors of AVX2 with AVX-VNNI, whose dot products are AVX-512's at half the width.

#pragma once

#include "simd_avx2.h"

struct AvxVnni : Avx2 {
    static constexpr int kWideTokens = 0; // weights are never widened
    using Weights = Ints; // one block of unsigned bytes

    INLINE Ints start(int32_t sum) { return splat_int(-128 * sum); }
    INLINE Weights weights(const uint8_t *block) { return bytes(block); }
    INLINE Ints dot(Ints sums, Weights w, const int8_t *four) {
        const __m256i a = _mm256_set1_epi32(load_four(four));
        return {_mm256_dpbusd_avx_epi32(sums.low, w.low, a), _mm256_dpbusd_avx_epi32(sums.high, w.high, a)};
    }
    INLINE Ints dot_halves(Ints sums, Weights w, const int8_t *four) { return dot(sums, w, four); }
};
