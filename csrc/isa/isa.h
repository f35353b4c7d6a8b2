/* What every ISA file starts with: compiler words that the bodies use. */
#ifndef FC_ISA_H
#define FC_ISA_H

#include "kernels/kernels.h"
#include "kernels/math.h"

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* Whether vfma rounds once. */
#ifndef FUSED
#define FUSED 1
#endif

/* Keeps the compiler from knowing how x came about: it would compute it anew instead of keeping it in a register. */
#define FC_KEEP(x) __asm__("" : "+r"(x))

#endif
