// The vectors of AVX2: 16 lanes in two registers.

#pragma once

#include <immintrin.h>

#include "inline.h"
#include "layout.h"

struct Avx2 {
    struct Floats {
        __m256 low, high;
    };
    struct Ints {
        __m256i low, high;
    };
    // One block of weights with their sign, and without.
    struct Weights {
        Ints value, magnitude;
    };
    static constexpr int kTokens = 4;      // of a product tile; their sums per group may spill, those per column do not
    static constexpr int kWideTokens = 6;  // of a tile of widened weights: twelve sums, one activation, one of products
    static constexpr int kWideFrom = 12;   // tokens, from which on widening a block of weights pays

    INLINE Floats load(const float *p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
    INLINE void store(float *p, Floats x) {
        _mm256_storeu_ps(p, x.low);
        _mm256_storeu_ps(p + 8, x.high);
    }
    INLINE Floats load_half(const uint16_t *p) {
        return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p))),
                _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p + 8)))};
    }
    INLINE void store_half(uint16_t *p, Floats x) {
        _mm_storeu_si128(reinterpret_cast<__m128i *>(p), _mm256_cvtps_ph(x.low, _MM_FROUND_TO_NEAREST_INT));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(p + 8), _mm256_cvtps_ph(x.high, _MM_FROUND_TO_NEAREST_INT));
    }
    INLINE void store_bytes(int8_t *p, Ints x) {
        const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.low, x.high), 0b11011000);
        _mm_storeu_si128(reinterpret_cast<__m128i *>(p),
                         _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    }
    INLINE Floats splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
    INLINE Ints splat_int(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
    INLINE Floats add(Floats a, Floats b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
    INLINE Floats sub(Floats a, Floats b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
    INLINE Floats mul(Floats a, Floats b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
    INLINE Floats div(Floats a, Floats b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
    INLINE Floats fma(Floats a, Floats b, Floats c) {
        return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
    }
    INLINE Floats max(Floats a, Floats b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
    INLINE Floats min(Floats a, Floats b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
    INLINE Floats abs(Floats x) {
        const __m256 sign = _mm256_set1_ps(-0.0f);
        return {_mm256_andnot_ps(sign, x.low), _mm256_andnot_ps(sign, x.high)};
    }
    INLINE Floats keep(Floats x, int lanes) {
        const __m256i count = _mm256_set1_epi32(lanes);
        const __m256i low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        const __m256i high = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
        return {_mm256_and_ps(x.low, _mm256_castsi256_ps(_mm256_cmpgt_epi32(count, low))),
                _mm256_and_ps(x.high, _mm256_castsi256_ps(_mm256_cmpgt_epi32(count, high)))};
    }
    INLINE Ints add_int(Ints a, Ints b) { return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)}; }
    INLINE Ints round(Floats x) { return {_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high)}; }
    INLINE Floats to_floats(Ints x) { return {_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)}; }
    INLINE Floats times_power_of_two(Floats x, Ints n) {
        return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x.low), _mm256_slli_epi32(n.low, 23))),
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x.high), _mm256_slli_epi32(n.high, 23)))};
    }
    INLINE float sum(Floats x) {
        const __m256 eight = _mm256_add_ps(x.low, x.high);
        const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
        const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
    }
    INLINE int32_t sum_int(Ints x) {
        const __m256i eight = _mm256_add_epi32(x.low, x.high);
        const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
        const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0b01001110));
        return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0b10110001)));
    }
    INLINE float max_of(Floats x) {
        const __m256 eight = _mm256_max_ps(x.low, x.high);
        const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
        const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
    }

    // AVX2 multiplies unsigned by signed bytes and adds pairs in 16 bits, which 255 x 127 x 2 would overflow. So the
    // sign goes to the activation: |w| x sign(w) a, at most 127 x 127 x 2. What was added to the weights is taken off.
    INLINE Ints start(int32_t) { return splat_int(0); }
    INLINE Weights weights(const uint8_t *block) {
        const __m256i offset = _mm256_set1_epi8(-128);
        const Ints raw = bytes(block);
        const Ints value = {_mm256_xor_si256(raw.low, offset), _mm256_xor_si256(raw.high, offset)};
        return {value, {_mm256_abs_epi8(value.low), _mm256_abs_epi8(value.high)}};
    }
    INLINE Ints dot(Ints sums, Weights w, const int8_t *four) {
        const __m256i a = _mm256_set1_epi32(load_four(four));
        return {dot_pairs(sums.low, w.magnitude.low, _mm256_sign_epi8(a, w.value.low)),
                dot_pairs(sums.high, w.magnitude.high, _mm256_sign_epi8(a, w.value.high))};
    }
    INLINE Ints bytes(const uint8_t *block) {
        return {_mm256_loadu_si256(reinterpret_cast<const __m256i *>(block)),
                _mm256_loadu_si256(reinterpret_cast<const __m256i *>(block + 32))};
    }
    INLINE Ints low_halves(Ints w) {
        const __m256i mask = _mm256_set1_epi8(15);
        return {_mm256_and_si256(w.low, mask), _mm256_and_si256(w.high, mask)};
    }
    INLINE Ints high_halves(Ints w) {
        return low_halves(Ints{_mm256_srli_epi16(w.low, 4), _mm256_srli_epi16(w.high, 4)});
    }
    INLINE Ints dot_halves(Ints sums, Ints w, const int8_t *four) {
        const __m256i a = _mm256_set1_epi32(load_four(four));
        return {dot_pairs(sums.low, w.low, a), dot_pairs(sums.high, w.high, a)};
    }

    // Weights and activations widened to 16 bits need no sign moved, and their products are added in pairs to 32 bits
    // by one instruction instead of two. A block becomes four vectors: columns 0 and 1 of 16 rows, then 2 and 3.
    INLINE void widen(const uint8_t *block, int16_t *out) {
        const Ints raw = bytes(block);
        const __m256i offset = _mm256_set1_epi8(-128);
        // Each byte goes to the upper half of a 16-bit lane, and is shifted down with its sign.
        const __m256i front = _mm256_broadcastsi128_si256(
            _mm_setr_epi8(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13));
        const __m256i back = _mm256_broadcastsi128_si256(
            _mm_setr_epi8(-1, 2, -1, 3, -1, 6, -1, 7, -1, 10, -1, 11, -1, 14, -1, 15));
        const __m256i low = _mm256_xor_si256(raw.low, offset), high = _mm256_xor_si256(raw.high, offset);
        store_words(out, _mm256_srai_epi16(_mm256_shuffle_epi8(low, front), 8));
        store_words(out + 16, _mm256_srai_epi16(_mm256_shuffle_epi8(high, front), 8));
        store_words(out + 32, _mm256_srai_epi16(_mm256_shuffle_epi8(low, back), 8));
        store_words(out + 48, _mm256_srai_epi16(_mm256_shuffle_epi8(high, back), 8));
    }
    INLINE void widen_values(const int8_t *sixteen, int16_t *out) {
        store_words(out, _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i *>(sixteen))));
    }
    INLINE Ints words(const int16_t *p) {
        return {_mm256_load_si256(reinterpret_cast<const __m256i *>(p)),
                _mm256_load_si256(reinterpret_cast<const __m256i *>(p + 16))};
    }
    INLINE void dot_wide(Ints &sums, Ints w, const int16_t *two) {
        const __m256i a = _mm256_set1_epi32(load_two(two));
        __m256i products;
        // _mm256_madd_epi16 and _mm256_add_epi32, for each half. Six tokens leave one register for the products; GCC would
        // multiply for several tokens first, run out of registers, and take a seventh longer.
        asm("vpmaddwd %[two], %[w_low], %[products]\n\t"
            "vpaddd %[products], %[low], %[low]\n\t"
            "vpmaddwd %[two], %[w_high], %[products]\n\t"
            "vpaddd %[products], %[high], %[high]"
            : [low] "+x"(sums.low), [high] "+x"(sums.high), [products] "=&x"(products)
            : [two] "x"(a), [w_low] "x"(w.low), [w_high] "x"(w.high));
    }

  private:
    INLINE void store_words(int16_t *p, __m256i x) { _mm256_store_si256(reinterpret_cast<__m256i *>(p), x); }
    INLINE __m256i dot_pairs(__m256i sums, __m256i unsigned_bytes, __m256i signed_bytes) {
        const __m256i pairs = _mm256_maddubs_epi16(unsigned_bytes, signed_bytes);
        return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
};
