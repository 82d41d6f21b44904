#include "kernels_impl.h"
#include "simd_avx2.h"

const Kernels kAvx2 = Kernel<Avx2>::all("avx2");
