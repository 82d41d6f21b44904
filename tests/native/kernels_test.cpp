// Every kernel of every instruction set that this processor has, against plain arithmetic in double precision; and the
// engine with any number of threads. Built with the address and undefined-behaviour sanitizers by `make check` in
// handler/inference/native, and with the thread sanitizer by `make check-threads`.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "engine.h"

namespace {

int failures = 0, checks = 0;

void expect(bool holds, const std::string &what) {
    checks++;
    if (holds) return;
    failures++;
    std::fprintf(stderr, "FAILED: %s\n", what.c_str());
}

double magnitude(const std::vector<double> &values) {
    double largest = 1e-30;
    for (const double x : values) largest = std::max(largest, std::fabs(x));
    return largest;
}

// |a - b| within a share of `largest`, the unit in which sums of rounded terms err.
void expect_close(const std::vector<double> &expected, const std::vector<float> &given, double largest,
                  double tolerance, const std::string &what) {
    double worst = 0;
    for (size_t i = 0; i < expected.size(); i++) {
        if (!std::isfinite(given[i])) worst = INFINITY;
        else worst = std::max(worst, std::fabs(expected[i] - given[i]));
    }
    expect(worst <= tolerance * largest, what + ": off by " + std::to_string(worst / largest));
}

std::mt19937 generator(7);

std::vector<float> normal(size_t count, float deviation = 1) {
    std::normal_distribution<float> distribution(0, deviation);
    std::vector<float> values(count);
    for (auto &value : values) value = distribution(generator);
    return values;
}

// Exact copies on the heap, so that a read beyond the end is found.
struct Quantized {
    std::vector<int8_t> values;
    std::vector<float> scales;
    std::vector<int32_t> sums;
    Activations view;

    Quantized(const Kernels &kernels, const std::vector<float> &x, int tokens, int columns)
        : values(size_t(tokens) * columns), scales(values.size() / kActivationGroup), sums(values.size() / kInt4Group),
          view{values.data(), scales.data(), sums.data(), columns} {
        for (int t = 0; t < tokens; t++) kernels.quantize(x.data() + size_t(t) * columns, view.row(t));
    }
    double value(int t, int k) const {
        const size_t i = size_t(t) * view.columns + k;
        return double(values[i]) * scales[i / kActivationGroup];
    }
};

// Inputs of one product: `kind` says of what sort its activations are.
std::vector<float> activations(const std::string &kind, int tokens, int columns) {
    auto x = normal(size_t(tokens) * columns);
    if (kind == "zeros") std::fill(x.begin(), x.end(), 0.0f);
    if (kind == "outliers")
        for (size_t i = 0; i < x.size(); i += 61) x[i] *= 1e4f;
    if (kind == "tiny")
        for (auto &v : x) v *= 1e-30f;
    return x;
}

void test_quantize(const Kernels &kernels) {
    for (const std::string kind : {"random", "zeros", "outliers", "tiny"}) {
        const int tokens = 3, columns = 192;
        const auto x = activations(kind, tokens, columns);
        const Quantized q(kernels, x, tokens, columns);
        bool close = true, sums = true;
        for (int t = 0; t < tokens; t++)
            for (int g = 0; g < columns / kInt4Group; g++) {
                int sum = 0;
                for (int k = g * kInt4Group; k < (g + 1) * kInt4Group; k++) {
                    const size_t i = size_t(t) * columns + k;
                    sum += q.values[i];
                    // Half a step, and the rounding of the division.
                    close &= std::fabs(q.value(t, k) - x[i]) <= 0.50001 * q.scales[i / kActivationGroup];
                }
                sums &= sum == q.sums[size_t(t) * columns / kInt4Group + g];
            }
        expect(close, std::string(kernels.name) + " quantize " + kind + ": values within half a step");
        expect(sums, std::string(kernels.name) + " quantize " + kind + ": sums exact");
    }
}

void test_product(const Kernels &kernels, int bits, const std::string &kind, int tokens, int rows, int columns) {
    const std::string what = std::string(kernels.name) + " product int" + std::to_string(bits) + " " + kind + " " +
                             std::to_string(tokens) + "x" + std::to_string(rows) + "x" + std::to_string(columns);
    std::uniform_int_distribution<int> any(kind == "extremes" ? 255 : 1, 255);
    std::vector<uint8_t> packed(size_t(rows) * columns * bits / 8);
    for (auto &byte : packed) byte = uint8_t(any(generator)); // 1 to 255: a weight of -128 is never written
    auto row_scales = normal(rows, 0.01f), bias = normal(rows);
    // float16 numbers between 2^-8 and 2^-7.
    std::vector<uint16_t> group_scales(size_t(rows) * columns / kInt4Group);
    for (auto &scale : group_scales) scale = uint16_t(0x1c00 + generator() % 0x400);
    const auto weight = [&](int n, int k) {
        const size_t block = size_t(n / kRows) * columns * kRows;
        if (bits == 8) return (packed[block + k / 4 * kBlockBytes + n % kRows * 4 + k % 4] - 128) * double(row_scales[n]);
        const uint8_t byte = packed[block / 2 + k / 8 * kBlockBytes + n % kRows * 4 + k % 4];
        const int half = k % 8 < 4 ? byte & 15 : byte >> 4;
        const uint16_t scale = group_scales[(size_t(n / kRows) * columns / kInt4Group + k / kInt4Group) * kRows + n % kRows];
        return (half - 8) * std::ldexp(1 + (scale & 0x3ff) / 1024.0, (scale >> 10) - 15);
    };
    const Matrix matrix{packed.data(), row_scales.data(), bits == 4 ? group_scales.data() : nullptr, bias.data(), rows, columns};
    auto x = activations(kind, tokens, columns);
    if (kind == "extremes") std::fill(x.begin(), x.end(), -3.0f); // every product at its largest magnitude
    const Quantized q(kernels, x, tokens, columns);
    std::vector<double> sums(size_t(tokens) * rows);
    for (int t = 0; t < tokens; t++)
        for (int n = 0; n < rows; n++) {
            double sum = bias[n];
            for (int k = 0; k < columns; k++) sum += q.value(t, k) * weight(n, k);
            sums[size_t(t) * rows + n] = sum;
        }
    for (const Then then : {Then::store, Then::add, Then::gelu_tanh, Then::gelu_exact}) {
        auto out = normal(sums.size());
        std::vector<double> expected(sums);
        for (size_t i = 0; i < sums.size(); i++) {
            const double s = sums[i];
            if (then == Then::add) expected[i] = s + out[i];
            if (then == Then::gelu_tanh)
                expected[i] = s / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (s + 0.044715 * s * s * s)));
            if (then == Then::gelu_exact) expected[i] = s / 2 * (1 + std::erf(s / std::sqrt(2.0)));
        }
        const auto before = out;
        kernels.product(matrix, q.view, tokens, 0, rows / kRows, {out.data(), size_t(rows), then});
        expect_close(expected, out, std::max(magnitude(sums), magnitude(expected)), 1e-5, what);
        // Each token by itself, and the row blocks in two parts: the same bits.
        auto alone = before;
        for (int t = 0; t < tokens; t++) {
            const Output output{alone.data() + size_t(t) * rows, size_t(rows), then};
            kernels.product(matrix, q.view.row(t), 1, 0, rows / kRows / 2, output);
            kernels.product(matrix, q.view.row(t), 1, rows / kRows / 2, rows / kRows, output);
        }
        expect(alone == out, what + ": a token's result does not depend on its company");
    }
}

void test_layer_norm(const Kernels &kernels, int width, float outlier) {
    const int columns = padded(width, kActivationGroup);
    auto x = normal(columns), weight = normal(columns), bias = normal(columns);
    x[width / 2] += outlier;
    std::fill(weight.begin() + width, weight.end(), 0.0f);
    std::fill(bias.begin() + width, bias.end(), 0.0f);
    double mean = 0, variance = 0;
    for (int i = 0; i < width; i++) mean += x[i] / double(width);
    for (int i = 0; i < width; i++) variance += (x[i] - mean) * (x[i] - mean) / width;
    std::vector<double> expected(columns);
    for (int i = 0; i < width; i++) expected[i] = (x[i] - mean) / std::sqrt(variance + 1e-5) * weight[i] + bias[i];
    std::vector<float> out(columns, NAN);
    kernels.layer_norm(x.data(), width, {weight.data(), bias.data(), 1e-5f}, out.data());
    expect_close(expected, out, magnitude(expected), 1e-5, std::string(kernels.name) + " layer_norm " + std::to_string(width));
}

double half_rounded(float x) {
    const double clamped = std::min(std::max(double(x), -65504.0), 65504.0);
    if (std::fabs(clamped) < std::ldexp(1, -14)) return std::nearbyint(std::ldexp(clamped, 24)) * std::ldexp(1, -24);
    int exponent;
    const double fraction = std::frexp(clamped, &exponent);
    return std::ldexp(std::nearbyint(std::ldexp(fraction, 11)), exponent - 11);
}

void test_attention(const Kernels &kernels, int size, int length, float spread) {
    const std::string what =
        std::string(kernels.name) + " attention " + std::to_string(size) + "x" + std::to_string(length);
    const int positions = padded(length, kRows);
    const auto q = normal(size_t(length) * size), k = normal(size_t(length) * size, spread), v = normal(size_t(length) * size, spread);
    // What no position has been written to yet may hold anything that is a number.
    std::vector<uint16_t> keys(size_t(positions) * size, 0x3c00), values(size_t(positions) * padded(size, kRows), 0x3c00);
    const HeadCache cache{keys.data(), values.data(), size};
    std::vector<double> expected(size_t(length) * size);
    for (int i = 0; i < length; i++) {
        std::vector<double> weights(i + 1);
        double best = -INFINITY, total = 0;
        for (int j = 0; j <= i; j++) {
            for (int d = 0; d < size; d++) weights[j] += double(q[i * size + d]) * half_rounded(k[j * size + d]);
            best = std::max(best, weights[j] /= std::sqrt(double(size)));
        }
        for (auto &weight : weights) total += weight = std::exp(weight - best);
        for (int j = 0; j <= i; j++)
            for (int d = 0; d < size; d++) expected[i * size + d] += weights[j] / total * half_rounded(v[j * size + d]);
    }
    std::vector<float> out(expected.size(), NAN), scratch(attention_scratch(length));
    for (int i = 0; i < length; i++) kernels.append(cache, i, &k[size_t(i) * size], &v[size_t(i) * size]);
    kernels.attend(cache, 0, length, q.data(), size, out.data(), size, scratch.data());
    expect_close(expected, out, magnitude(expected), 2e-5, what);
    auto alone = out;
    for (int i = 0; i < length; i++)
        kernels.attend(cache, i, 1, &q[size_t(i) * size], size, &alone[size_t(i) * size], size, scratch.data());
    expect(alone == out, what + ": a query's result does not depend on its company");
}

// A model of random weights that owns them.
struct RandomModel {
    std::vector<std::vector<uint8_t>> bytes;
    std::vector<std::vector<float>> floats;
    std::vector<uint16_t> positions;
    Model model;

    explicit RandomModel(const ModelShape &shape) : model{} {
        const int width = shape.width, columns = padded(width, kActivationGroup);
        model.shape = shape;
        model.embedding = linear(shape.vocabulary, width);
        positions.assign(size_t(shape.context) * columns, 0x2400);
        model.positions = positions.data();
        for (int layer = 0; layer < shape.layers; layer++)
            model.blocks.push_back({norm(columns), linear(3 * width, width), linear(width, width), norm(columns),
                                    linear(shape.inner_width, width), linear(width, shape.inner_width)});
        model.ln_f = norm(columns);
    }
    const float *some(size_t count, float deviation) {
        floats.push_back(normal(count, deviation));
        return floats.back().data();
    }
    Matrix linear(int rows, int inputs) {
        const int n = padded(rows, kRows), k = padded(inputs, kActivationGroup);
        bytes.emplace_back(size_t(n) * k);
        for (auto &byte : bytes.back()) byte = uint8_t(1 + generator() % 255);
        return {bytes.back().data(), some(n, 0.002f), nullptr, some(n, 0.1f), n, k};
    }
    LayerNorm norm(int columns) { return {some(columns, 1), some(columns, 0.1f), 1e-5f}; }
};

// Sequences together, apart, in pieces, copied, on one to four threads: the same bits.
void test_engine(const Kernels &kernels) {
    const ModelShape shape{2, 4, 128, 320, 50, 90, 0, 1e-5f};
    const RandomModel random(shape);
    const int rows = 2 * 20;
    const size_t stride = padded(shape.vocabulary, kRows);
    std::vector<int32_t> tokens(rows), all(rows);
    for (int i = 0; i < rows; i++) tokens[i] = int(generator() % shape.vocabulary), all[i] = i;
    std::vector<float> first;
    for (int threads = 1; threads <= 4; threads++) {
        Engine engine(random.model, kernels, 3, threads);
        std::vector<float> together(rows * stride), apart(together);
        const Span both[] = {{0, 0, 20}, {1, 0, 20}};
        engine.forward(tokens.data(), both, 2, all.data(), rows, together.data(), stride);
        if (first.empty()) first = together;
        expect(first == together, std::string(kernels.name) + " engine: the same bits on any number of threads");
        int done = 0;
        for (const int piece : {1, 2, 13, 4}) {
            const Span span{2, done, piece};
            engine.forward(&tokens[20 + done], &span, 1, all.data(), piece, &apart[(20 + done) * stride], stride);
            done += piece;
        }
        engine.copy(0, 2, 19);
        const Span last{2, 19, 1};
        engine.forward(&tokens[19], &last, 1, all.data(), 1, &apart[19 * stride], stride);
        expect(std::equal(first.begin() + 19 * stride, first.end(), apart.begin() + 19 * stride),
               std::string(kernels.name) + " engine: the same bits in pieces and after a copy");
    }
}

} // namespace

int main() {
    for (const char *name : {"avx512vnni", "avxvnni", "avx2", "portable"}) {
        const Kernels *kernels = choose_kernels(name);
        if (!kernels) {
            std::printf("%s: not on this processor\n", name);
            continue;
        }
        test_quantize(*kernels);
        for (const int bits : {8, 4}) {
            for (const std::string kind : {"random", "zeros", "outliers", "tiny", "extremes"})
                for (const int tokens : {7, 12}) test_product(*kernels, bits, kind, tokens, 48, 128);
            for (const int tokens : {1, 2, 3, 4, 5, 6, 8, 12, 13, 37}) test_product(*kernels, bits, "random", tokens, 16, 64);
            test_product(*kernels, bits, "random", 2, 80, 3072);
            test_product(*kernels, bits, "random", 14, 144, 3072); // more row blocks than are widened together
        }
        for (const int width : {1, 15, 16, 17, 63, 64, 768, 1600}) {
            test_layer_norm(*kernels, width, 0);
            test_layer_norm(*kernels, width, 1e4f);
        }
        for (const int size : {1, 8, 16, 20, 64, 80})
            for (const int length : {1, 2, 15, 17, 70}) test_attention(*kernels, size, length, 1);
        test_attention(*kernels, 64, 1024, 1);
        test_attention(*kernels, 64, 20, 1e5f); // keys and values beyond the largest float16
        test_attention(*kernels, 64, 20, 1e-6f);
        test_engine(*kernels);
        std::printf("%s: done\n", name);
    }
    std::printf("%d passed, %d failed\n", checks - failures, failures);
    return failures != 0;
}
