// The shapes of what the kernels read and write. Plain pointers: nothing here owns memory.
//
// Packed weights, `packed-int8-v1`. A matrix of N rows (outputs) and K columns (inputs) is cut into blocks of 16 rows
// and 4 columns; one block is 64 bytes, one cache line and one AVX-512 register:
//
//     byte    0..3          4..7          ...   60..63
//             row 0         row 1               row 15
//             columns 0..3  columns 0..3        columns 0..3
//
// The blocks of the same 16 rows lie one behind the other, K / 4 of them, so that a product reads memory from front to
// back. A byte is the quantized weight + 128; every row has one scale.
//
// `packed-int4-v1` has two weights in a byte, each + 8: the low halves of a block are columns 0..3, the high halves
// columns 4..7, so that one shift and one mask make two blocks of it. Every row has a scale per 32 columns.
//
// N is padded to a multiple of 16 and K to one of 64 with weights of zero.

#pragma once

#include <cstddef>
#include <cstdint>

constexpr int kRows = 16;            // rows of a block, and lanes of a vector
constexpr int kBlockBytes = 64;      // one block of 16 rows by 4 columns (8 of 4 bits)
constexpr int kActivationGroup = 64; // columns that share an activation scale
constexpr int kInt4Group = 32;       // columns that share a weight scale, where weights have 4 bits

constexpr int padded(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// A linear layer, or the embedding that is also the head.
struct Matrix {
    const uint8_t *weights;
    const float *row_scales;      // (N), weights of 8 bits
    const uint16_t *group_scales; // (N / 16, K / 32, 16) float16, weights of 4 bits; else null
    const float *bias;            // (N), or null
    int rows;                     // N, padded
    int columns;                  // K, padded

    size_t row_block_bytes() const { return size_t(columns) * kRows / (group_scales ? 2 : 1); }
};

// Quantized activations, one row per token. The sum of every 32 values is what an offset on the weights has to be
// multiplied with to be taken back.
struct Activations {
    int8_t *values;
    float *scales; // one per 64 values
    int32_t *sums; // one per 32 values
    int columns;   // padded

    Activations row(int token) const {
        const size_t start = size_t(token) * columns;
        return {values + start, scales + start / kActivationGroup, sums + start / kInt4Group, columns};
    }
};

// What becomes of a product's results.
enum class Then { store, add, gelu_tanh, gelu_exact };

struct Output {
    float *values; // row of token t at values + t * stride
    size_t stride;
    Then then;
};

struct LayerNorm {
    const float *weight; // (width padded)
    const float *bias;
    float epsilon;
};

// Keys and values of one sequence, one layer and one head, in float16. Keys lie in blocks of 16 positions with the
// positions innermost, so that 16 scores are computed at once without adding across lanes:
//
//     keys    (context / 16, head size, 16)
//     values  (context, head size padded to 16)
struct HeadCache {
    uint16_t *keys;
    uint16_t *values;
    int head_size;
};
