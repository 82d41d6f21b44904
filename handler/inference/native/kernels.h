// The arithmetic of a GPT-2 step, in one version for each instruction set; see kernels_impl.h for what they compute.

#pragma once

#include "layout.h"

struct Kernels {
    const char *name;

    // The embedding of one token, row `row` of the packed 8-bit `block`s of 16 rows, plus that of its position.
    void (*embed)(const uint8_t *block, int row, float scale, const uint16_t *position, int columns, float *out);

    // Layer normalization of one row of `width` values; `out` is padded to 64 with zeros.
    void (*layer_norm)(const float *x, int width, const LayerNorm &norm, float *out);

    // One row of `activations.columns` values to 8 bits.
    void (*quantize)(const float *x, const Activations &row);

    // The outputs of rows first_block * 16 to last_block * 16 for every token.
    void (*product)(const Matrix &matrix, const Activations &activations, int tokens, int first_block, int last_block,
                    const Output &output);

    // Writes the key and the value of one position.
    void (*append)(const HeadCache &cache, int position, const float *key, const float *value);

    // Attention of `count` queries at the positions past, past + 1, ...; each sees the positions up to its own.
    // Rows of `queries` and `out` are `stride` and `out_stride` apart. `scratch` holds attention_scratch() floats.
    void (*attend)(const HeadCache &cache, int past, int count, const float *queries, size_t stride, float *out,
                   size_t out_stride, float *scratch);
};

constexpr int kMaxQueries = 6; // queries that are attended to together

constexpr size_t attention_scratch(int context) { return size_t(kMaxQueries) * padded(context, kRows); }

// Each is defined where the compiler may use its instructions; call none that the processor does not have.
extern const Kernels kAvx512Vnni, kAvxVnni, kAvx2, kPortable;

// The best of them that this processor runs, or the one of that name; null if it has none of that name.
const Kernels *choose_kernels(const char *name);
