/* Plain C, one lane: runs everywhere, and shows whatever is wrong in a body without a vector's help. */
#define FUSED 0
#include "isa.h"

#define ISA scalar

#define D double
#define DM int
#define DL 1
#define dset1(x) ((double)(x))
#define dget(p) (*(p))
#define dput(p, v) (*(p) = (v))
#define dadd(a, b) ((a) + (b))
#define dsub(a, b) ((a) - (b))
#define dmul(a, b) ((a) * (b))
#define dfma(a, b, c) ((a) * (b) + (c))
#define dsum(v) (v)
#define dgt(a, b) ((a) > (b))
#define dunordered(a, b) ((a) != (a) || (b) != (b))
#define dselect(m, a, b) ((m) ? (a) : (b))

#define DTYPE f32
#define T float
#define VU uint32_t
#include "scalar_vocabulary.h"
#include "bodies.h"

#define DTYPE f64
#define T double
#define VU uint64_t
#include "scalar_vocabulary.h"
#include "bodies.h"
