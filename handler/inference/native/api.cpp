// What Python calls, in C: see ../native.py. Nothing is thrown across; what fails returns null or a number below zero.

#include <algorithm>
#include <chrono>
#include <new>
#include <vector>

#include "engine.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// Takes the model's tensors one after the other, in the order of native.py's tensor_order().
struct Tensors {
    const void *const *next;

    template <class T> const T *take() { return static_cast<const T *>(*next++); }
    LayerNorm layer_norm(float epsilon) {
        const auto *weight = take<float>();
        return {weight, take<float>(), epsilon};
    }
    Matrix linear(int rows, int columns, int bits) {
        Matrix matrix{take<uint8_t>(), nullptr, nullptr, nullptr, padded(rows, kRows), padded(columns, kActivationGroup)};
        if (bits == 4) matrix.group_scales = take<uint16_t>();
        else matrix.row_scales = take<float>();
        return matrix;
    }
    Matrix linear_with_bias(int rows, int columns, int bits) {
        Matrix matrix = linear(rows, columns, bits);
        matrix.bias = take<float>();
        return matrix;
    }
};

Model read_model(const ModelShape &shape, int bits, const void *const *tensors) {
    Tensors in{tensors};
    const int width = shape.width;
    Model model{};
    model.shape = shape;
    model.embedding = in.linear(shape.vocabulary, width, 8);
    model.positions = in.take<uint16_t>();
    for (int layer = 0; layer < shape.layers; layer++) {
        Block block{};
        block.ln_1 = in.layer_norm(shape.epsilon);
        block.attention_in = in.linear_with_bias(3 * width, width, bits);
        block.attention_out = in.linear_with_bias(width, width, bits);
        block.ln_2 = in.layer_norm(shape.epsilon);
        block.feed_forward_in = in.linear_with_bias(shape.inner_width, width, bits);
        block.feed_forward_out = in.linear_with_bias(width, shape.inner_width, bits);
        model.blocks.push_back(block);
    }
    model.ln_f = in.layer_norm(shape.epsilon);
    return model;
}

} // namespace

// The instruction set that an engine would use: the one named, or the best for null; null if it cannot be had.
EXPORT const char *native_isa(const char *name) {
    const Kernels *kernels = choose_kernels(name);
    return kernels ? kernels->name : nullptr;
}

EXPORT size_t native_slot_bytes(const ModelShape *shape) { return Engine::slot_bytes(*shape); }

// The tensors must outlive the engine. Null if the instruction set or the memory cannot be had.
EXPORT Engine *native_create(const ModelShape *shape, int bits, const void *const *tensors, int slots, int threads,
                             const char *isa) {
    const Kernels *kernels = choose_kernels(isa);
    if (!kernels) return nullptr;
    try {
        return new Engine(read_model(*shape, bits, tensors), *kernels, slots, threads);
    } catch (const std::exception &) {
        return nullptr;
    }
}

EXPORT void native_destroy(Engine *engine) { delete engine; }

EXPORT int native_forward(Engine *engine, const int32_t *tokens, const Span *spans, int span_count, const int32_t *rows,
                          int row_count, float *logits, size_t stride) {
    try {
        engine->forward(tokens, spans, span_count, rows, row_count, logits, stride);
        return 0;
    } catch (const std::bad_alloc &) {
        return -1;
    }
}

EXPORT void native_copy(Engine *engine, int from, int to, int length) { engine->copy(from, to, length); }

// Gigabytes (10^9 bytes) a second that the threads read together from memory, the median of several passes, because other
// tenants of the machine come and go; below zero if the memory cannot be had. The floor of a step's time is its bytes
// over this.
EXPORT double native_read_bandwidth(int threads, size_t bytes, int passes) {
    try {
        const Memory memory(bytes, true);
        auto *words = memory.at<uint64_t>(0);
        const size_t count = bytes / sizeof(uint64_t);
        for (size_t i = 0; i < count; i++) words[i] = i;
        Pool pool(threads);
        std::vector<double> rates;
        for (int pass = 0; pass < passes; pass++) {
            std::atomic<uint64_t> sink{0};
            const auto start = std::chrono::steady_clock::now();
            pool.run([&](int thread) {
                uint64_t sums[8] = {};
                const size_t first = count * thread / threads / 8 * 8, last = count * (thread + 1) / threads / 8 * 8;
                for (size_t i = first; i < last; i += 8) {
                    __builtin_prefetch(words + i + 512);
                    for (int j = 0; j < 8; j++) sums[j] += words[i + j];
                }
                for (const uint64_t sum : sums) sink += sum;
            });
            const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
            rates.push_back(double(bytes) / seconds.count() / 1e9);
        }
        std::nth_element(rates.begin(), rates.begin() + passes / 2, rates.end());
        return rates[passes / 2];
    } catch (const std::exception &) {
        return -1;
    }
}
