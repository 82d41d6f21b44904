#include "kernels_impl.h"
#include "simd_avx512.h"

const Kernels kAvx512Vnni = Kernel<Avx512Vnni>::all("avx512vnni");
