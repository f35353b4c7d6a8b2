/* What every ISA file starts with: compiler words that the bodies use. */
#ifndef FC_ISA_H
#define FC_ISA_H

#include "../kernels.h"

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

#endif
