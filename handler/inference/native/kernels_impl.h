// The kernels, written once over a vector type S of 16 lanes; included by one file for each instruction set.
//
// Every result is a sum in one fixed order, whatever the tile it is computed in: integer dot products are exact, groups
// of columns are added in ascending order within a lane, keys and values in ascending position. So a token's logits
// depend neither on its company in a batch, nor on how its prompt is cut, nor on the number of threads.

#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "inline.h"
#include "kernels.h"

template <class S> struct Kernel {
    using Floats = typename S::Floats;
    using Ints = typename S::Ints;

    // --- Elementwise -------------------------------------------------------------------------------------------------

    // e^x to 2 ulp: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (S. Moshier's Cephes, expf).
    INLINE Floats exp(Floats x) {
        x = S::min(S::max(x, S::splat(-87.0f)), S::splat(88.0f));
        const Ints n = S::round(S::mul(x, S::splat(1.44269504f)));
        const Floats turns = S::to_floats(n);
        Floats r = S::fma(turns, S::splat(-0.693359375f), x);
        r = S::fma(turns, S::splat(2.12194440e-4f), r);
        Floats p = S::splat(1.9875691500e-4f);
        for (const float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
            p = S::fma(p, r, S::splat(c));
        p = S::fma(S::mul(r, r), p, S::add(r, S::splat(1.0f)));
        return S::times_power_of_two(p, n);
    }

    // x / 2 (1 + tanh(u)) = x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3) (Hendrycks & Gimpel 2016).
    INLINE Floats gelu_tanh(Floats x) {
        const Floats cubic = S::fma(S::mul(S::mul(x, x), x), S::splat(0.044715f), x);
        return S::div(x, S::add(S::splat(1.0f), exp(S::mul(cubic, S::splat(-1.59576912f)))));
    }

    // x / 2 (1 + erf(x / sqrt 2)), with erf to 1.5e-7 (Abramowitz & Stegun, 7.1.26).
    INLINE Floats gelu_exact(Floats x) {
        const Floats z = S::mul(S::abs(x), S::splat(0.70710678f));
        const Floats t = S::div(S::splat(1.0f), S::fma(z, S::splat(0.3275911f), S::splat(1.0f)));
        Floats p = S::splat(1.061405429f);
        for (const float c : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f}) p = S::fma(p, t, S::splat(c));
        const Floats tail = S::mul(S::mul(p, t), exp(S::mul(S::mul(z, z), S::splat(-1.0f))));
        return S::sub(S::max(x, S::splat(0.0f)), S::mul(S::mul(S::abs(x), S::splat(0.5f)), tail));
    }

    static void embed(const uint8_t *block, int row, float scale, const uint16_t *position, int columns, float *out) {
        for (int i = 0; i < columns; i += kRows) {
            float weights[kRows];
            for (int j = 0; j < kRows; j++) {
                const int column = i + j;
                weights[j] = float(block[column / 4 * kBlockBytes + row * 4 + column % 4] - 128);
            }
            S::store(out + i, S::fma(S::load(weights), S::splat(scale), S::load_half(position + i)));
        }
    }

    static void layer_norm(const float *x, int width, const LayerNorm &norm, float *out) {
        const int lanes = padded(width, kRows);
        Floats total = S::splat(0.0f), squares = total;
        for (int i = 0; i < lanes; i += kRows) total = S::add(total, some(x, i, width));
        const Floats mean = S::splat(S::sum(total) / float(width));
        for (int i = 0; i < lanes; i += kRows) {
            Floats off = S::sub(some(x, i, width), mean);
            if (width - i < kRows) off = S::keep(off, width - i);
            squares = S::fma(off, off, squares);
        }
        const Floats factor = S::splat(1.0f / std::sqrt(S::sum(squares) / float(width) + norm.epsilon));
        for (int i = 0; i < padded(width, kActivationGroup); i += kRows) {
            // Weight and bias are zero in the padding, and so is what comes out.
            const Floats off = i < width ? S::sub(some(x, i, width), mean) : S::splat(0.0f);
            S::store(out + i, S::fma(S::mul(off, factor), S::load(norm.weight + i), S::load(norm.bias + i)));
        }
    }

    // 16 values from x + i, those at `width` and beyond taken as zero.
    INLINE Floats some(const float *x, int i, int width) {
        return width - i >= kRows ? S::load(x + i) : S::keep(S::load(x + i), width - i);
    }

    static void quantize(const float *x, const Activations &row) {
        constexpr int kVectors = kActivationGroup / kRows;
        for (int g = 0; g < row.columns / kActivationGroup; g++, x += kActivationGroup) {
            Floats values[kVectors], largest = S::splat(0.0f);
            for (int i = 0; i < kVectors; i++) {
                values[i] = S::load(x + i * kRows);
                largest = S::max(largest, S::abs(values[i]));
            }
            const float most = S::max_of(largest);
            row.scales[g] = most / 127.0f;
            const Floats inverse = S::splat(most > 0.0f ? 127.0f / most : 0.0f);
            int8_t *bytes = row.values + g * kActivationGroup;
            for (int i = 0; i < kVectors; i += 2) {
                const Ints first = S::round(S::mul(values[i], inverse));
                const Ints second = S::round(S::mul(values[i + 1], inverse));
                S::store_bytes(bytes + i * kRows, first);
                S::store_bytes(bytes + (i + 1) * kRows, second);
                row.sums[(g * kVectors + i) / 2] = S::sum_int(S::add_int(first, second));
            }
        }
    }

    // --- Products ----------------------------------------------------------------------------------------------------

    // Where the memory is asked for bytes before they are needed: far enough ahead to hide its latency.
    static constexpr int kPrefetch = 4096;

    // Adds one group of columns to the sums of one row block and M tokens, 8-bit weights.
    template <int M>
    INLINE void add_group_int8(const uint8_t *weights, const Activations *rows, int g, Floats (&sums)[M]) {
        Ints dots[M];
        for (int m = 0; m < M; m++) dots[m] = S::start(rows[m].sums[2 * g] + rows[m].sums[2 * g + 1]);
        weights += size_t(g) * kActivationGroup * kRows;
#pragma GCC unroll 4
        for (int c = 0; c < kActivationGroup; c += 4, weights += kBlockBytes) {
            __builtin_prefetch(weights + kPrefetch);
            const typename S::Weights block = S::weights(weights);
            for (int m = 0; m < M; m++) dots[m] = S::dot(dots[m], block, rows[m].values + g * kActivationGroup + c);
        }
        for (int m = 0; m < M; m++)
            sums[m] = S::fma(S::to_floats(dots[m]), S::splat(rows[m].scales[g]), sums[m]);
    }

    // The same with 4-bit weights: two groups of weights, each with scales of its own, in one of activations.
    template <int M>
    INLINE void add_group_int4(const uint8_t *weights, const uint16_t *scales, const Activations *rows, int g,
                               Floats (&sums)[M]) {
        weights += size_t(g) * kActivationGroup * kRows / 2;
        for (int half = 2 * g; half < 2 * g + 2; half++) {
            Ints dots[M];
            for (int m = 0; m < M; m++) dots[m] = S::splat_int(-8 * rows[m].sums[half]);
#pragma GCC unroll 4
            for (int c = 0; c < kInt4Group; c += 8, weights += kBlockBytes) {
                __builtin_prefetch(weights + kPrefetch);
                const auto block = S::bytes(weights);
                const auto low = S::low_halves(block), high = S::high_halves(block);
                for (int m = 0; m < M; m++) {
                    const int8_t *values = rows[m].values + half * kInt4Group + c;
                    dots[m] = S::dot_halves(dots[m], low, values);
                    dots[m] = S::dot_halves(dots[m], high, values + 4);
                }
            }
            const Floats scale = S::load_half(scales + half * kRows);
            for (int m = 0; m < M; m++)
                sums[m] = S::fma(S::to_floats(dots[m]), S::mul(scale, S::splat(rows[m].scales[g])), sums[m]);
        }
    }

    // One row block times M tokens, held in registers from the first column to the last.
    template <int M>
    static void tile(const Matrix &matrix, const Activations &activations, int token, int block, const Output &output) {
        Activations rows[M];
        for (int m = 0; m < M; m++) rows[m] = activations.row(token + m);
        Floats sums[M];
        for (int m = 0; m < M; m++) sums[m] = S::splat(0.0f);
        const int groups = matrix.columns / kActivationGroup, first = block * kRows;
        const uint8_t *weights = matrix.weights + block * matrix.row_block_bytes();
        Floats scale = S::splat(1.0f);
        if (matrix.group_scales) {
            const uint16_t *scales = matrix.group_scales + size_t(block) * matrix.columns / kInt4Group * kRows;
            for (int g = 0; g < groups; g++) add_group_int4<M>(weights, scales, rows, g, sums);
        } else {
            scale = S::load(matrix.row_scales + first);
            for (int g = 0; g < groups; g++) add_group_int8<M>(weights, rows, g, sums);
        }
        const Floats bias = matrix.bias ? S::load(matrix.bias + first) : S::splat(0.0f);
        for (int m = 0; m < M; m++)
            finish(S::fma(sums[m], scale, bias), output.values + (token + m) * output.stride + first, output.then);
    }

    // The same with weights of 8 bits and activations that were widened to 16: 64 words of weights for each block of 16
    // rows and 4 columns, and a row of activations for each token.
    template <int M>
    static void wide_tile(const Matrix &matrix, const int16_t *weights, const int16_t *values,
                          const Activations &activations, int token, int block, const Output &output) {
        Floats sums[M];
        for (int m = 0; m < M; m++) sums[m] = S::splat(0.0f);
        for (int g = 0; g < matrix.columns / kActivationGroup; g++) {
            Ints dots[M];
            for (int m = 0; m < M; m++) dots[m] = S::splat_int(0);
            for (int c = 0; c < kActivationGroup; c += 2, weights += 2 * kRows, values += 2) {
                const Ints pair = S::words(weights);
                for (int m = 0; m < M; m++) S::dot_wide(dots[m], pair, values + m * matrix.columns);
            }
            for (int m = 0; m < M; m++)
                sums[m] = S::fma(S::to_floats(dots[m]), S::splat(activations.row(token + m).scales[g]), sums[m]);
        }
        const int first = block * kRows;
        const Floats scale = S::load(matrix.row_scales + first);
        const Floats bias = matrix.bias ? S::load(matrix.bias + first) : S::splat(0.0f);
        for (int m = 0; m < M; m++)
            finish(S::fma(sums[m], scale, bias), output.values + (token + m) * output.stride + first, output.then);
    }

    INLINE void finish(Floats x, float *out, Then then) {
        switch (then) {
        case Then::store: break;
        case Then::add: x = S::add(x, S::load(out)); break;
        case Then::gelu_tanh: x = gelu_tanh(x); break;
        case Then::gelu_exact: x = gelu_exact(x); break;
        }
        S::store(out, x);
    }

    // Calls `work` with a number of tokens known at run time, at most M, as a constant.
    template <int M, class Work> INLINE void with_constant(int tokens, const Work &work) {
        if (tokens == M) return work(std::integral_constant<int, M>());
        if constexpr (M > 1) with_constant<M - 1>(tokens, work);
    }

    // Calls `work` for as many tiles as needed, of tokens as equal as possible: 14 are 7 and 7 rather than 12 and 2.
    template <int M, class Work> INLINE void in_tiles(int tokens, const Work &work) {
        const int tiles = (tokens + M - 1) / M;
        for (int i = 0; i < tiles; i++) {
            const int first = tokens * i / tiles, last = tokens * (i + 1) / tiles;
            with_constant<M>(last - first, [&](auto count) { work(count, first); });
        }
    }

    // Row blocks that all tokens are multiplied with before the next ones come: their weights stay near the processor, and
    // the activations of many tokens, which do not, are read (and widened) once for all of these blocks.
    static constexpr int kBlocks = 8;

    static void product(const Matrix &matrix, const Activations &activations, int tokens, int first_block, int last_block,
                        const Output &output) {
        if constexpr (S::kWideTokens > 0)
            if (tokens >= S::kWideFrom && !matrix.group_scales)
                return wide_product(matrix, activations, tokens, first_block, last_block, output);
        for (int block = first_block; block < last_block; block += kBlocks)
            in_tiles<S::kTokens>(tokens, [&](auto count, int first) {
                for (int b = block; b < std::min(block + kBlocks, last_block); b++)
                    tile<count>(matrix, activations, first, b, output);
            });
    }

    // A product with so many tokens that it pays to widen weights, once for all of them.
    static void wide_product(const Matrix &matrix, const Activations &activations, int tokens, int first_block,
                             int last_block, const Output &output) {
        const size_t row = matrix.columns;
        int16_t *weights = wide_scratch((kBlocks * kRows + S::kWideTokens) * row);
        int16_t *values = weights + kBlocks * kRows * row;
        for (int block = first_block; block < last_block; block += kBlocks) {
            const int blocks = std::min(kBlocks, last_block - block);
            const uint8_t *packed = matrix.weights + block * matrix.row_block_bytes();
            for (size_t i = 0; i < blocks * kRows * row; i += kBlockBytes) S::widen(packed + i, weights + i);
            in_tiles<S::kWideTokens>(tokens, [&](auto count, int first) {
                const int8_t *bytes = activations.row(first).values;
                for (size_t i = 0; i < count * row; i += kRows) S::widen_values(bytes + i, values + i);
                for (int b = 0; b < blocks; b++)
                    wide_tile<count>(matrix, weights + b * kRows * row, values, activations, first, block + b, output);
            });
        }
    }

    // Memory of this thread for some words, aligned to a cache line.
    static int16_t *wide_scratch(size_t words) {
        struct alignas(64) Line {
            int16_t words[32];
        };
        thread_local std::vector<Line> lines;
        lines.resize(std::max(lines.size(), (words + 31) / 32));
        return lines.data()->words;
    }

    // --- Attention ---------------------------------------------------------------------------------------------------

    static void append(const HeadCache &cache, int position, const float *key, const float *value) {
        const int size = cache.head_size;
        uint16_t *keys = cache.keys + size_t(position / kRows) * size * kRows + position % kRows;
        uint16_t *values = cache.values + size_t(position) * padded(size, kRows);
        for (int d = 0; d < size; d += kRows) {
            uint16_t halves[kRows];
            S::store_half(halves, in_half_range(head_lanes(key, d, size)));
            for (int i = 0; i < kRows && d + i < size; i++) keys[(d + i) * kRows] = halves[i];
            S::store_half(values + d, in_half_range(head_lanes(value, d, size)));
        }
    }

    // 16 values from x + d, without reading beyond the head's last.
    INLINE Floats head_lanes(const float *x, int d, int size) {
        if (size - d >= kRows) return S::load(x + d);
        float lanes[kRows] = {};
        std::copy(x + d, x + size, lanes);
        return S::load(lanes);
    }

    INLINE Floats in_half_range(Floats x) { return S::min(S::max(x, S::splat(-65504.0f)), S::splat(65504.0f)); }

    // Scaled scores of M queries against B blocks of 16 keys each.
    template <int M, int B>
    INLINE void score(const uint16_t *keys, int size, const float *queries, size_t stride, float factor, float *scores,
                      size_t row) {
        Floats sums[M][B];
        for (int m = 0; m < M; m++)
            for (int b = 0; b < B; b++) sums[m][b] = S::splat(0.0f);
        for (int d = 0; d < size; d++)
            for (int b = 0; b < B; b++) {
                // A single query waits for memory: the blocks behind these are asked for in time.
                if constexpr (M == 1) __builtin_prefetch(keys + (size_t(b + B) * size + d) * kRows);
                const Floats key = S::load_half(keys + (size_t(b) * size + d) * kRows);
                for (int m = 0; m < M; m++) sums[m][b] = S::fma(S::splat(queries[m * stride + d]), key, sums[m][b]);
            }
        for (int m = 0; m < M; m++)
            for (int b = 0; b < B; b++) S::store(scores + m * row + b * kRows, S::mul(sums[m][b], S::splat(factor)));
    }

    // Scores to weights, in place, without dividing by their sum, which is returned; those from `length` on become 0.
    static float soften(float *scores, int length, int lanes) {
        for (int i = length; i < lanes; i++) scores[i] = -HUGE_VALF;
        Floats best = S::load(scores);
        for (int i = kRows; i < lanes; i += kRows) best = S::max(best, S::load(scores + i));
        const Floats highest = S::splat(S::max_of(best));
        for (int i = 0; i < lanes; i += kRows) S::store(scores + i, exp(S::sub(S::load(scores + i), highest)));
        for (int i = length; i < lanes; i++) scores[i] = 0.0f;
        Floats total = S::splat(0.0f);
        for (int i = 0; i < lanes; i += kRows) total = S::add(total, S::load(scores + i));
        return S::sum(total);
    }

    // The mean of the values under M queries' weights, B vectors of 16 of the head's values at a time.
    template <int M, int B>
    INLINE void mix(const uint16_t *values, int width, int length, const float *weights, size_t row, const float *totals,
                    Floats (&sums)[M][B]) {
        for (int m = 0; m < M; m++)
            for (int b = 0; b < B; b++) sums[m][b] = S::splat(0.0f);
        for (int j = 0; j < length; j++)
            for (int b = 0; b < B; b++) {
                if constexpr (M == 1) __builtin_prefetch(values + size_t(j + kRows) * width + b * kRows);
                const Floats value = S::load_half(values + size_t(j) * width + b * kRows);
                for (int m = 0; m < M; m++) sums[m][b] = S::fma(S::splat(weights[m * row + j]), value, sums[m][b]);
            }
        for (int m = 0; m < M; m++)
            for (int b = 0; b < B; b++) sums[m][b] = S::div(sums[m][b], S::splat(totals[m]));
    }

    template <int M, int B>
    INLINE void mix_and_store(const HeadCache &cache, int d, int length, const float *weights, size_t row,
                              const float *totals, float *out, size_t stride) {
        Floats sums[M][B];
        mix<M, B>(cache.values + d, padded(cache.head_size, kRows), length, weights, row, totals, sums);
        for (int m = 0; m < M; m++)
            for (int b = 0; b < B; b++) {
                float lanes[kRows];
                S::store(lanes, sums[m][b]);
                const int from = d + b * kRows;
                std::copy(lanes, lanes + std::min(kRows, cache.head_size - from), out + m * stride + from);
            }
    }

    // M queries at consecutive positions. A single query works on four vectors at a time, because one alone would wait
    // for the sum before; several keep the processor busy with one.
    template <int M>
    static void attend_together(const HeadCache &cache, int past, const float *queries, size_t stride, float *out,
                                size_t out_stride, float *scratch) {
        constexpr int B = M == 1 ? 4 : 1;
        const int size = cache.head_size, length = past + M, lanes = padded(length, kRows);
        const float factor = 1.0f / std::sqrt(float(size));
        int j = 0;
        for (; j + B * kRows <= lanes; j += B * kRows)
            score<M, B>(cache.keys + size_t(j) * size, size, queries, stride, factor, scratch + j, lanes);
        for (; j < lanes; j += kRows)
            score<M, 1>(cache.keys + size_t(j) * size, size, queries, stride, factor, scratch + j, lanes);
        float totals[M];
        for (int m = 0; m < M; m++) totals[m] = soften(scratch + m * lanes, past + m + 1, lanes);
        int d = 0;
        for (; d + B * kRows <= padded(size, kRows); d += B * kRows)
            mix_and_store<M, B>(cache, d, length, scratch, lanes, totals, out, out_stride);
        for (; d < size; d += kRows) mix_and_store<M, 1>(cache, d, length, scratch, lanes, totals, out, out_stride);
    }

    static void attend(const HeadCache &cache, int past, int count, const float *queries, size_t stride, float *out,
                       size_t out_stride, float *scratch) {
        int i = 0;
        for (; i + kMaxQueries <= count; i += kMaxQueries)
            attend_together<kMaxQueries>(cache, past + i, queries + i * stride, stride, out + i * out_stride, out_stride,
                                         scratch);
        for (; i < count; i++)
            attend_together<1>(cache, past + i, queries + i * stride, stride, out + i * out_stride, out_stride, scratch);
    }

    static constexpr Kernels all(const char *name) { return {name, embed, layer_norm, quantize, product, append, attend}; }
};
