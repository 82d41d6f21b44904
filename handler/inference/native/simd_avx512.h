// The vectors of AVX-512 with VNNI: 16 lanes in one register.

#pragma once

#include <immintrin.h>

#include "inline.h"
#include "layout.h"

struct Avx512Vnni {
    using Floats = __m512;
    using Ints = __m512i;
    using Weights = __m512i; // one block of unsigned bytes
    // Tokens of a product tile, as many as registers allow, with two sums each: all of a small batch in one pass, so that
    // reading weights and multiplying them overlap.
    static constexpr int kTokens = 12;
    static constexpr int kWideTokens = 0; // weights are never widened

    INLINE Floats load(const float *p) { return _mm512_loadu_ps(p); }
    INLINE void store(float *p, Floats x) { _mm512_storeu_ps(p, x); }
    INLINE Floats load_half(const uint16_t *p) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)));
    }
    INLINE void store_half(uint16_t *p, Floats x) {
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(p),
                            _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    INLINE void store_bytes(int8_t *p, Ints x) {
        _mm_storeu_si128(reinterpret_cast<__m128i *>(p), _mm512_cvtepi32_epi8(x));
    }
    INLINE Floats splat(float x) { return _mm512_set1_ps(x); }
    INLINE Ints splat_int(int32_t x) { return _mm512_set1_epi32(x); }
    INLINE Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
    INLINE Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
    INLINE Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
    INLINE Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
    INLINE Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
    INLINE Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
    INLINE Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
    INLINE Floats abs(Floats x) { return _mm512_abs_ps(x); }
    INLINE Floats keep(Floats x, int lanes) { return _mm512_maskz_mov_ps(__mmask16((1u << lanes) - 1), x); }
    INLINE Ints add_int(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
    INLINE Ints round(Floats x) { return _mm512_cvtps_epi32(x); }
    INLINE Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
    INLINE Floats times_power_of_two(Floats x, Ints n) {
        return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), _mm512_slli_epi32(n, 23)));
    }
    INLINE float sum(Floats x) {
        const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
        const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
        const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
    }
    INLINE int32_t sum_int(Ints x) { return _mm512_reduce_add_epi32(x); }
    INLINE float max_of(Floats x) { return _mm512_reduce_max_ps(x); }

    // Weights arrive with 128 added, which `start` takes back: sum((w + 128) a) - 128 sum(a).
    INLINE Ints start(int32_t sum) { return _mm512_set1_epi32(-128 * sum); }
    INLINE Weights weights(const uint8_t *block) { return _mm512_loadu_si512(block); }
    INLINE Ints dot(Ints sums, Weights w, const int8_t *four) {
        return _mm512_dpbusd_epi32(sums, w, _mm512_set1_epi32(load_four(four)));
    }
    INLINE Weights low_halves(Weights w) { return _mm512_and_si512(w, _mm512_set1_epi8(15)); }
    INLINE Weights high_halves(Weights w) { return low_halves(_mm512_srli_epi16(w, 4)); }
    INLINE Weights bytes(const uint8_t *block) { return _mm512_loadu_si512(block); }
    INLINE Ints dot_halves(Ints sums, Weights w, const int8_t *four) { return dot(sums, w, four); }
};
