/* The vocabulary on single numbers of type T. No guard: included once per dtype. */
#define V T
#define VM int
#define VL 1
#define MR 4
#define NV 4
#define KC 256
#define MC 64
#define vzero() ((T)0)
#define vset1(x) ((T)(x))
#define vload(p) (*(p))
#define vstore(p, v) (*(p) = (v))
#define vmask(lo, hi) ((lo) <= 0 && (hi) > 0)
#define vload_mask(p, m) ((m) ? *(p) : (T)0)
#define vstore_mask(p, m, v) ((void)((m) ? (*(p) = (v)) : (T)0))
#define veven(a, b) ((void)(b), (a))
#define vor(a, b) ((a) + (b))
#define vbits(v)    \
  (((union {        \
     T real;        \
     VU bits;       \
   }){.real = (v)}) \
       .bits)
#define vreal(u)    \
  (((union {        \
     T real;        \
     VU bits;       \
   }){.bits = (u)}) \
       .real)
#define vadd(a, b) ((a) + (b))
#define vsub(a, b) ((a) - (b))
#define vmul(a, b) ((a) * (b))
#define vdiv(a, b) ((a) / (b))
#define vsqrt(a) ((T)sqrt(a))
#define vfma(a, b, c) ((a) * (b) + (c))
#define vmax(a, b) ((a) > (b) ? (a) : (b))
#define vmin(a, b) ((a) < (b) ? (a) : (b))
#define vgt(a, b) ((a) > (b))
#define veq(a, b) ((a) == (b))
#define vunordered(a, b) ((a) != (a) || (b) != (b))
#define vselect(m, a, b) ((m) ? (a) : (b))
#define vonly(m, a) ((m) ? (a) : (T)0)
#define vexcept(m, a) ((m) ? (T)0 : (a))
#define vany(m) (m)
#define vsum(v) (v)
#define vmost(v) (v)
#define vevens(a, b) (a)
#define vlookup(a, b, p) (*(p) ? (b) : (a))
#define vstream(p, v) vstore(p, v)
#define vpast(p, v) vstore(p, v)
#define vfence() ((void)0)
#define vtranspose(r) ((void)(r))
#define dload(p) ((double)*(p))
#define dload_some(p, n) dload(p)
#define dstore(p, v) (*(p) = (T)(v))
