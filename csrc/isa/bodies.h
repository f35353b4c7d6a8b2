/* Included by an ISA file once per dtype, with the vocabulary defined: every kernel body, then the table. No guard.
 *
 * All of them make one large unit. To compile side by side, csrc/build_ffi.py makes several of each ISA file, which hold one of
 * the parts below (FC_PART) of one dtype (FC_ONLY: 32 or 64) alone. */
#define FC_BITS_f32 32
#define FC_BITS_f64 64
#define FC_BITS_(dtype) FC_BITS_##dtype
#define FC_BITS(dtype) FC_BITS_(dtype)
#define FC_HAS(part) (FC_PART == FC_ALL_PARTS || FC_PART == part)
#define FC_CAT3_(a, b, c) a##_##b##__##c
#define FC_CAT3(a, b, c) FC_CAT3_(a, b, c)
#define FN(name) FC_CAT3(name, DTYPE, ISA)
#define FC_CAT2_(a, b) fc_##a##_##b
#define FC_CAT2(a, b) FC_CAT2_(a, b)
#define OF(name) FC_CAT2(name, DTYPE)
#define FC_STR_(x) #x
#define FC_STR(x) FC_STR_(x)
#define NR (NV * VL)

#if FC_ONLY == 0 || FC_ONLY == FC_BITS(DTYPE)

#define FC_KERNEL(name, args) void FN(name) args;
#include "kernels/kernels.def"
#undef FC_KERNEL

#include "kernels/activate.inc"

#if FC_HAS(FC_PART_PRODUCTS) || FC_HAS(FC_PART_CONVOLUTIONS)
#include "kernels/write.inc"
#endif

#if FC_HAS(FC_PART_PRODUCTS)
#include "kernels/gemm.inc"
#include "kernels/pack.inc"
#include "kernels/peak.inc"
#endif

#if FC_HAS(FC_PART_CONVOLUTIONS)
#include "kernels/lines.inc"
#include "kernels/range.inc"
#include "kernels/skinny.inc"
#include "kernels/winograd.inc"
#include "kernels/winograd_line.inc"
#include "kernels/winograd_strided.inc"
#endif

#if FC_HAS(FC_PART_DEPTHWISE)
#include "kernels/depthwise.inc"
#endif

#if FC_HAS(FC_PART_PLANES)
#include "kernels/depthwise_rows.inc"
#include "kernels/plane.inc"
#endif

#if FC_HAS(FC_PART_POOLS)
#include "kernels/pool_rows.inc"
#include "kernels/pool_columns.inc"
#include "kernels/pool_tile.inc"
#include "kernels/pool_strip.inc"
#include "kernels/pool_box.inc"
#include "kernels/pool.inc"
#include "kernels/pool_gradient.inc"
#endif

#if FC_HAS(FC_PART_MAPS)
#include "kernels/math.inc"
#include "kernels/dropout.inc"
#include "kernels/map.inc"
#include "kernels/reduce.inc"
#include "kernels/update.inc"
#include "kernels/loss.inc"
#include "kernels/copy.inc"
#include "kernels/resize.inc"
#endif

_Static_assert(MR <= 14 && NR <= FC_MAX_LANES && MR <= FC_MAX_LANES, "a tile must fit the edge kernels and the tables");
_Static_assert(NR * sizeof(T) <= FC_MAX_TILE && MR * sizeof(T) <= FC_MAX_TILE, "a panel must fit the rows of filters");
_Static_assert(MC % MR == 0, "blocks are whole panels");

#if FC_HAS(FC_PART_PRODUCTS)
const fc_kernels FC_CAT3(fc_kernels, DTYPE, ISA) = {
    .isa = FC_STR(ISA),
    .vl = VL,
    .mr = MR,
    .nr = NR,
    .kc = KC,
    .mc = MC,
#define FC_KERNEL(name, args) .name = FN(name),
#include "kernels/kernels.def"
#undef FC_KERNEL
};
#endif

#endif

#undef FC_BITS_f32
#undef FC_BITS_f64
#undef FC_BITS_
#undef FC_BITS
#undef FC_HAS
#undef FC_HEIGHTS
#undef FC_CAT3_
#undef FC_CAT3
#undef FN
#undef FC_CAT2_
#undef FC_CAT2
#undef OF
#undef FC_STR_
#undef FC_STR
#undef NR
#undef DTYPE
#undef T
#undef V
#undef VU
#undef VM
#undef VL
#undef MR
#undef NV
#undef KC
#undef MC
#undef vzero
#undef vset1
#undef vload
#undef vstore
#undef vmask
#undef vload_mask
#undef vstore_mask
#undef veven
#undef vor
#undef vbits
#undef vreal
#undef vadd
#undef vsub
#undef vmul
#undef vdiv
#undef vsqrt
#undef vfma
#undef vmax
#undef vmin
#undef vgt
#undef veq
#undef vunordered
#undef vselect
#undef vonly
#undef vexcept
#undef vany
#undef vsum
#undef vmost
#undef vevens
#undef vlookup
#undef vstream
#undef vpast
#undef vfence
#undef vtranspose
#undef dload
#undef dload_some
#undef dstore
