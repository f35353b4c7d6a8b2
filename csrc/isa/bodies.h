/* Included by an ISA file once per dtype, with the vocabulary defined: every kernel body, then the table. No guard. */
#define FC_CAT3_(a, b, c) a##_##b##__##c
#define FC_CAT3(a, b, c) FC_CAT3_(a, b, c)
#define FN(name) FC_CAT3(name, DTYPE, ISA)
#define FC_CAT2_(a, b) fc_##a##_##b
#define FC_CAT2(a, b) FC_CAT2_(a, b)
#define OF(name) FC_CAT2(name, DTYPE)
#define FC_STR_(x) #x
#define FC_STR(x) FC_STR_(x)
#define NR (NV * VL)

#include "../kernels/math.inc"
#include "../kernels/dropout.inc"
#include "../kernels/map.inc"
#include "../kernels/update.inc"
#include "../kernels/pack.inc"
#include "../kernels/gemm.inc"
#include "../kernels/depthwise.inc"
#include "../kernels/depthwise_rows.inc"
#include "../kernels/peak.inc"
#include "../kernels/skinny.inc"
#include "../kernels/plane.inc"
#include "../kernels/lines.inc"
#include "../kernels/winograd.inc"
#include "../kernels/winograd_line.inc"
#include "../kernels/winograd_strided.inc"
#include "../kernels/range.inc"
#include "../kernels/pool_rows.inc"
#include "../kernels/pool_columns.inc"
#include "../kernels/pool_tile.inc"
#include "../kernels/pool_strip.inc"
#include "../kernels/pool_box.inc"
#include "../kernels/pool.inc"
#include "../kernels/pool_gradient.inc"
#include "../kernels/reduce.inc"
#include "../kernels/resize.inc"
#include "../kernels/copy.inc"

_Static_assert(MR <= 14 && NR <= FC_MAX_LANES && MR <= FC_MAX_LANES, "a tile must fit the edge kernels and the tables");
_Static_assert(NR * sizeof(T) <= FC_MAX_TILE && MR * sizeof(T) <= FC_MAX_TILE, "a panel must fit the rows of filters");
_Static_assert(MC % MR == 0, "blocks are whole panels");

const fc_kernels FC_CAT3(fc_kernels, DTYPE, ISA) = {
    .isa = FC_STR(ISA),
    .vl = VL,
    .mr = MR,
    .nr = NR,
    .kc = KC,
    .mc = MC,
#define FC_KERNEL(name, args) .name = FN(name),
#include "../kernels/kernels.def"
#undef FC_KERNEL
};

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
#undef vevens
#undef vstream
#undef vfence
#undef vtranspose
#undef dload
#undef dload_some
#undef dstore
