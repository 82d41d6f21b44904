#include "kernels_impl.h"
#include "simd_portable.h"

const Kernels kPortable = Kernel<Portable>::all("portable");
