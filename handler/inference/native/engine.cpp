#include "engine.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <sys/mman.h>

namespace {

// Up to so many tokens, every thread quantizes all of them for itself: that costs less than waiting for the others.
constexpr int kFewTokens = 2;

} // namespace

Memory::Memory(size_t bytes, bool large_pages) : bytes_(bytes) {
    void *start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) throw std::bad_alloc();
    start_ = static_cast<char *>(start);
    if (large_pages) madvise(start, bytes, MADV_HUGEPAGE); // refused by a kernel without them, which does no harm
}

Memory::~Memory() { munmap(start_, bytes_); }

// What every thread of a step works on.
struct Engine::Step {
    const int32_t *tokens;
    const Span *spans;
    int span_count;
    const int32_t *rows;
    int row_count;
    float *logits;
    size_t stride;
    int token_count;
};

Engine::Engine(Model model, const Kernels &kernels, int slots, int threads)
    : model_(std::move(model)), kernels_(kernels), slot_bytes_(slot_bytes(model_.shape)), cache_(slot_bytes_ * slots),
      pool_(threads), own_(threads), scratch_(threads) {
    const ModelShape &shape = model_.shape;
    const size_t row = padded(std::max(shape.width, shape.inner_width), kActivationGroup);
    for (auto &scratch : scratch_) scratch.resize(std::max(row, attention_scratch(shape.context)));
}

size_t Engine::slot_bytes(const ModelShape &shape) {
    const int size = shape.width / shape.heads;
    const size_t per_position = size + padded(size, kRows);
    return sizeof(uint16_t) * per_position * padded(shape.context, kRows) * shape.heads * shape.layers;
}

HeadCache Engine::head_cache(int slot, int layer, int head) const {
    const ModelShape &shape = model_.shape;
    const int size = shape.width / shape.heads, positions = padded(shape.context, kRows);
    const size_t keys = size_t(positions) * size, values = size_t(positions) * padded(size, kRows);
    auto *start = cache_.at<uint16_t>(slot * slot_bytes_) + (size_t(layer) * shape.heads + head) * (keys + values);
    return {start, start + keys, size};
}

void Engine::copy(int from, int to, int length) {
    const ModelShape &shape = model_.shape;
    const size_t positions = padded(length, kRows); // keys lie in blocks of 16 positions
    for (int layer = 0; layer < shape.layers; layer++)
        for (int head = 0; head < shape.heads; head++) {
            const HeadCache source = head_cache(from, layer, head), target = head_cache(to, layer, head);
            std::memcpy(target.keys, source.keys, positions * source.head_size * sizeof(uint16_t));
            std::memcpy(target.values, source.values, positions * padded(source.head_size, kRows) * sizeof(uint16_t));
        }
}

Activations Engine::ActivationBuffer::with_room_for(int tokens, int columns) {
    const size_t count = size_t(tokens) * columns;
    if (values.size() < count) {
        values.resize(count);
        scales.resize(count / kActivationGroup);
        sums.resize(count / kInt4Group);
    }
    return {values.data(), scales.data(), sums.data(), columns};
}

// The padding of every row stays zero: nothing writes there.
void Engine::make_room(int tokens) {
    if (tokens <= room_) return;
    room_ = tokens;
    const ModelShape &shape = model_.shape;
    const size_t width = padded(shape.width, kActivationGroup), inner = padded(shape.inner_width, kActivationGroup);
    residual_.resize(tokens * width);
    qkv_.resize(tokens * size_t(padded(3 * shape.width, kRows)));
    attended_.resize(tokens * width);
    hidden_.resize(tokens * inner);
    shared_.with_room_for(tokens, int(std::max(width, inner)));
}

void Engine::forward(const int32_t *tokens, const Span *spans, int span_count, const int32_t *rows, int row_count,
                     float *logits, size_t stride) {
    int token_count = 0;
    for (int i = 0; i < span_count; i++) token_count += spans[i].count;
    make_room(token_count);
    const Step step{tokens, spans, span_count, rows, row_count, logits, stride, token_count};
    pool_.run([&](int thread) { work(step, thread); });
}

void Engine::work(const Step &step, int thread) {
    const ModelShape &shape = model_.shape;
    const int tokens = step.token_count;
    const int width = padded(shape.width, kActivationGroup), inner = padded(shape.inner_width, kActivationGroup);
    const Output residual{residual_.data(), size_t(width), Then::add};
    const Output qkv{qkv_.data(), size_t(padded(3 * shape.width, kRows)), Then::store};
    const Output hidden{hidden_.data(), size_t(inner), shape.exact_gelu ? Then::gelu_exact : Then::gelu_tanh};
    float *scratch = scratch_[thread].data();

    const auto normalized = [&](const LayerNorm &norm) {
        return [&, scratch](int token) {
            kernels_.layer_norm(residual_.data() + size_t(token) * width, shape.width, norm, scratch);
            return scratch;
        };
    };
    const auto row_of = [&](std::vector<float> &rows, int columns) {
        return [&rows, columns](int token) { return rows.data() + size_t(token) * columns; };
    };

    embed(step, thread);
    pool_.barrier();
    for (int layer = 0; layer < shape.layers; layer++) {
        const Block &block = model_.blocks[layer];
        const Activations in = quantized(tokens, width, thread, normalized(block.ln_1));
        multiply(block.attention_in, in, tokens, qkv, thread);
        pool_.barrier();
        attend(step, layer, thread);
        pool_.barrier();
        const Activations attended = quantized(tokens, width, thread, row_of(attended_, width));
        multiply(block.attention_out, attended, tokens, residual, thread);
        pool_.barrier();
        const Activations between = quantized(tokens, width, thread, normalized(block.ln_2));
        multiply(block.feed_forward_in, between, tokens, hidden, thread);
        pool_.barrier();
        const Activations active = quantized(tokens, inner, thread, row_of(hidden_, inner));
        multiply(block.feed_forward_out, active, tokens, residual, thread);
        pool_.barrier();
    }
    const Activations last = quantized(step.row_count, width, thread, [&](int row) {
        kernels_.layer_norm(residual_.data() + size_t(step.rows[row]) * width, shape.width, model_.ln_f, scratch);
        return scratch;
    });
    multiply(model_.embedding, last, step.row_count, {step.logits, step.stride, Then::store}, thread);
}

// Quantizes the rows that row(token) returns.
template <class Row> Activations Engine::quantized(int tokens, int columns, int thread, Row row) {
    if (tokens <= kFewTokens) {
        const Activations own = own_[thread].with_room_for(tokens, columns);
        for (int token = 0; token < tokens; token++) kernels_.quantize(row(token), own.row(token));
        return own;
    }
    const Activations shared = shared_.with_room_for(tokens, columns);
    for (int token = thread; token < tokens; token += pool_.threads()) kernels_.quantize(row(token), shared.row(token));
    pool_.barrier();
    return shared;
}

// This thread's share of a product: a run of row blocks, read from front to back.
void Engine::multiply(const Matrix &matrix, const Activations &activations, int tokens, const Output &output, int thread) {
    const int blocks = matrix.rows / kRows, threads = pool_.threads();
    kernels_.product(matrix, activations, tokens, int(int64_t(blocks) * thread / threads),
                     int(int64_t(blocks) * (thread + 1) / threads), output);
}

// The embeddings of token and position, added up.
void Engine::embed(const Step &step, int thread) {
    const int width = model_.shape.width, columns = padded(width, kActivationGroup);
    const Matrix &embedding = model_.embedding;
    int row = 0;
    for (int i = 0; i < step.span_count; i++)
        for (int j = 0; j < step.spans[i].count; j++, row++) {
            if (row % pool_.threads() != thread) continue;
            const int token = step.tokens[row];
            kernels_.embed(embedding.weights + token / kRows * embedding.row_block_bytes(), token % kRows,
                           embedding.row_scales[token],
                           model_.positions + size_t(step.spans[i].past + j) * columns, columns,
                           residual_.data() + size_t(row) * columns);
        }
}

// Every head of every sequence is one thread's: it appends the new keys and values and looks at all of them.
void Engine::attend(const Step &step, int layer, int thread) {
    const ModelShape &shape = model_.shape;
    const int size = shape.width / shape.heads;
    const size_t qkv_stride = padded(3 * shape.width, kRows), out_stride = padded(shape.width, kActivationGroup);
    int row = 0, task = 0;
    for (int i = 0; i < step.span_count; i++) {
        const Span &span = step.spans[i];
        for (int head = 0; head < shape.heads; head++, task++) {
            if (task % pool_.threads() != thread) continue;
            const HeadCache cache = head_cache(span.slot, layer, head);
            const float *queries = qkv_.data() + row * qkv_stride + head * size;
            for (int j = 0; j < span.count; j++) {
                const float *key = queries + j * qkv_stride + shape.width;
                kernels_.append(cache, span.past + j, key, key + shape.width);
            }
            kernels_.attend(cache, span.past, span.count, queries, qkv_stride,
                            attended_.data() + row * out_stride + head * size, out_stride, scratch_[thread].data());
        }
        row += span.count;
    }
}
