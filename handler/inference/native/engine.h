// GPT-2, one step over a ragged batch: token ids in, logits out.

#pragma once

#include <memory>
#include <vector>

#include "kernels.h"
#include "pool.h"

struct ModelShape {
    int32_t layers, heads, width, inner_width, context, vocabulary;
    int32_t exact_gelu; // 0: the tanh approximation
    float epsilon;      // of layer normalization
};

struct Block {
    LayerNorm ln_1;
    Matrix attention_in; // queries, keys and values: 3 width rows
    Matrix attention_out;
    LayerNorm ln_2;
    Matrix feed_forward_in;
    Matrix feed_forward_out;
};

struct Model {
    ModelShape shape;
    Matrix embedding;          // one row per token; the head as well
    const uint16_t *positions; // (context, width padded to 64) float16
    std::vector<Block> blocks;
    LayerNorm ln_f;
};

// The new tokens of one sequence: `count` of them behind the `past` that its slot of the cache holds.
struct Span {
    int32_t slot, past, count;
};

// Memory that is zero, and taken only where it is touched: in pages of 4 KB, or of 2 MB where it asks for them and the
// system has them, which a thread reads half as fast again.
class Memory {
  public:
    explicit Memory(size_t bytes, bool large_pages = false);
    ~Memory();
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;
    template <class T> T *at(size_t byte) const { return reinterpret_cast<T *>(start_ + byte); }

  private:
    char *start_;
    size_t bytes_;
};

class Engine {
  public:
    Engine(Model model, const Kernels &kernels, int slots, int threads);

    // Appends the tokens of all spans, which lie one behind the other in `tokens`, and writes the logits after those
    // whose indices are in `rows`, `stride` floats apart; `stride` is at least the vocabulary padded to 16.
    void forward(const int32_t *tokens, const Span *spans, int span_count, const int32_t *rows, int row_count,
                 float *logits, size_t stride);

    // Copies the keys and values of a slot's first `length` tokens to another slot.
    void copy(int from, int to, int length);

    const char *isa() const { return kernels_.name; }

    // Bytes of keys and values of one sequence as long as the context.
    static size_t slot_bytes(const ModelShape &shape);

  private:
    struct Step;
    // Quantized activations, and the memory they lie in.
    struct ActivationBuffer {
        std::vector<int8_t> values;
        std::vector<float> scales;
        std::vector<int32_t> sums;
        Activations with_room_for(int tokens, int columns);
    };

    void work(const Step &step, int thread);
    void embed(const Step &step, int thread);
    void attend(const Step &step, int layer, int thread);
    void multiply(const Matrix &matrix, const Activations &activations, int tokens, const Output &output, int thread);
    template <class Row> Activations quantized(int tokens, int columns, int thread, Row row);
    HeadCache head_cache(int slot, int layer, int head) const;
    void make_room(int tokens);

    const Model model_;
    const Kernels &kernels_;
    const size_t slot_bytes_;
    Memory cache_;
    Pool pool_;
    // Of one step, one row per token, each padded to whole groups of columns.
    std::vector<float> residual_, qkv_, attended_, hidden_;
    ActivationBuffer shared_;                 // quantized by all threads together
    std::vector<ActivationBuffer> own_;       // by each thread for itself
    std::vector<std::vector<float>> scratch_; // of each thread: one row, or the weights of attention
    int room_ = 0;                            // tokens there is room for
};
