// Which of the kernels this processor runs, best first. The one file that looks at the processor, built for any.

#include <cstring>

#include "kernels.h"

const Kernels *choose_kernels(const char *name) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vnni");
    const struct {
        const Kernels *kernels;
        bool runs;
    } candidates[] = {
        {&kAvx512Vnni, avx512},
        {&kAvxVnni, avx2 && __builtin_cpu_supports("avxvnni")},
        {&kAvx2, avx2},
        {&kPortable, true},
    };
#else
    const struct {
        const Kernels *kernels;
        bool runs;
    } candidates[] = {{&kPortable, true}};
#endif
    for (const auto &candidate : candidates)
        if (candidate.runs && (!name || !std::strcmp(name, candidate.kernels->name))) return candidate.kernels;
    return nullptr;
}
