#include "kernels_impl.h"
#include "simd_avxvnni.h"

const Kernels kAvxVnni = Kernel<AvxVnni>::all("avxvnni");
