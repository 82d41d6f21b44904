// The same vectors in plain C++, for a processor that has none of the others; compilers make of it what they can.

#pragma once

#include <cmath>

#include "inline.h"
#include "layout.h"

struct Portable {
    struct Floats {
        float lane[kRows];
    };
    struct Ints {
        int32_t lane[kRows];
    };
    using Weights = const uint8_t *;
    struct Halves {
        uint8_t byte[kBlockBytes];
    };
    static constexpr int kTokens = 2;
    static constexpr int kWideTokens = 0; // weights are never widened

    template <class Result, class Function> INLINE Result each(Function function) {
        Result result;
        for (int i = 0; i < kRows; i++) result.lane[i] = function(i);
        return result;
    }

    INLINE Floats load(const float *p) {
        return each<Floats>([=](int i) { return p[i]; });
    }
    INLINE void store(float *p, Floats x) { std::memcpy(p, x.lane, sizeof x.lane); }
    INLINE Floats load_half(const uint16_t *p) {
        return each<Floats>([=](int i) { return from_half(p[i]); });
    }
    INLINE void store_half(uint16_t *p, Floats x) {
        for (int i = 0; i < kRows; i++) p[i] = to_half(x.lane[i]);
    }
    INLINE void store_bytes(int8_t *p, Ints x) {
        for (int i = 0; i < kRows; i++) p[i] = int8_t(x.lane[i]);
    }
    INLINE Floats splat(float x) {
        return each<Floats>([=](int) { return x; });
    }
    INLINE Ints splat_int(int32_t x) {
        return each<Ints>([=](int) { return x; });
    }
    INLINE Floats add(Floats a, Floats b) {
        return each<Floats>([&](int i) { return a.lane[i] + b.lane[i]; });
    }
    INLINE Floats sub(Floats a, Floats b) {
        return each<Floats>([&](int i) { return a.lane[i] - b.lane[i]; });
    }
    INLINE Floats mul(Floats a, Floats b) {
        return each<Floats>([&](int i) { return a.lane[i] * b.lane[i]; });
    }
    INLINE Floats div(Floats a, Floats b) {
        return each<Floats>([&](int i) { return a.lane[i] / b.lane[i]; });
    }
    // Not fused: without the instruction, fusing is a slow call into the mathematics library.
    INLINE Floats fma(Floats a, Floats b, Floats c) { return add(mul(a, b), c); }
    INLINE Floats max(Floats a, Floats b) {
        return each<Floats>([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
    }
    INLINE Floats min(Floats a, Floats b) {
        return each<Floats>([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
    }
    INLINE Floats abs(Floats x) {
        return each<Floats>([&](int i) { return std::fabs(x.lane[i]); });
    }
    INLINE Floats keep(Floats x, int lanes) {
        return each<Floats>([&](int i) { return i < lanes ? x.lane[i] : 0.0f; });
    }
    INLINE Ints add_int(Ints a, Ints b) {
        return each<Ints>([&](int i) { return a.lane[i] + b.lane[i]; });
    }
    // What is no number, or too large for 32 bits, becomes 0 instead of an undefined conversion.
    INLINE Ints round(Floats x) {
        return each<Ints>([&](int i) { return std::fabs(x.lane[i]) < 2e9f ? int32_t(std::nearbyintf(x.lane[i])) : 0; });
    }
    INLINE Floats to_floats(Ints x) {
        return each<Floats>([&](int i) { return float(x.lane[i]); });
    }
    INLINE Floats times_power_of_two(Floats x, Ints n) {
        return each<Floats>([&](int i) { return std::ldexp(x.lane[i], n.lane[i]); });
    }
    INLINE float sum(Floats x) {
        for (int width = kRows / 2; width > 0; width /= 2)
            for (int i = 0; i < width; i++) x.lane[i] += x.lane[i + width];
        return x.lane[0];
    }
    INLINE int32_t sum_int(Ints x) {
        int32_t total = 0;
        for (int i = 0; i < kRows; i++) total += x.lane[i];
        return total;
    }
    INLINE float max_of(Floats x) {
        float best = x.lane[0];
        for (int i = 1; i < kRows; i++) best = x.lane[i] > best ? x.lane[i] : best;
        return best;
    }

    INLINE Ints start(int32_t sum) { return splat_int(-128 * sum); }
    INLINE Weights weights(const uint8_t *block) { return block; }
    INLINE Ints dot(Ints sums, Weights w, const int8_t *four) {
        return each<Ints>([&](int i) {
            const uint8_t *row = w + 4 * i;
            return sums.lane[i] + row[0] * four[0] + row[1] * four[1] + row[2] * four[2] + row[3] * four[3];
        });
    }
    INLINE const uint8_t *bytes(const uint8_t *block) { return block; }
    INLINE Halves low_halves(const uint8_t *block) {
        Halves halves;
        for (int i = 0; i < kBlockBytes; i++) halves.byte[i] = block[i] & 15;
        return halves;
    }
    INLINE Halves high_halves(const uint8_t *block) {
        Halves halves;
        for (int i = 0; i < kBlockBytes; i++) halves.byte[i] = uint8_t(block[i] >> 4);
        return halves;
    }
    INLINE Ints dot_halves(Ints sums, const Halves &w, const int8_t *four) { return dot(sums, w.byte, four); }

  private:
    // float16 to float32 and back, rounding to nearest even, by way of the float32 arithmetic itself: scaling by 2^112
    // moves the exponent of a half, subnormal or not, to where a float has it.
    INLINE float from_half(uint16_t half) {
        const uint32_t magnitude = uint32_t(half & 0x7fff) << 13;
        float value = as_float(magnitude) * as_float(0x77800000); // 2^112
        if ((half & 0x7c00) == 0x7c00) value = as_float(magnitude | 0x7f800000);
        return half & 0x8000 ? -value : value;
    }
    INLINE uint16_t to_half(float value) {
        const uint32_t bits = as_bits(value), sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
        if (magnitude > 0x7f800000) return uint16_t(sign | 0x7e00);
        if (magnitude >= 0x477ff000) return uint16_t(sign | 0x7c00); // rounds to beyond the largest half
        if (magnitude < 0x38800000) // subnormal: adding 0.5 lets the float's own rounding do it
            return uint16_t(sign | (as_bits(as_float(magnitude) + 0.5f) - 0x3f000000));
        return uint16_t(sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13));
    }
    INLINE float as_float(uint32_t bits) {
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }
    INLINE uint32_t as_bits(float value) {
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        return bits;
    }
};
