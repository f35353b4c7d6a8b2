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

/* A function whose operations are scheduled before they get registers, so that independent chains are interleaved: Clang does so
 * unasked. */
#if defined(__clang__)
#define FC_INTERLEAVED
#else
#define FC_INTERLEAVED __attribute__((optimize("schedule-insns", "sched-pressure")))
#endif

/* Whether vfma rounds once. */
#ifndef FUSED
#define FUSED 1
#endif

/* Keeps the compiler from knowing how x came about: it would compute it anew instead of keeping it in a register. */
#define FC_KEEP(x) __asm__("" : "+r"(x))

/* The parts of bodies.h: a unit has the one that FC_PART says, or all; of the dtype whose bits FC_ONLY says, or both. */
#define FC_ALL_PARTS 0
#define FC_PART_PRODUCTS 1
#define FC_PART_CONVOLUTIONS 2
#define FC_PART_DEPTHWISE 3
#define FC_PART_POOLS 4
#define FC_PART_MAPS 5
#define FC_PART_PLANES 6
#ifndef FC_PART
#define FC_PART FC_ALL_PARTS
#endif
#ifndef FC_ONLY
#define FC_ONLY 0
#endif

#endif
