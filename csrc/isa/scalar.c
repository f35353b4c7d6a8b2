/* Plain C, one lane: runs everywhere, and shows whatever is wrong in a body without a vector's help. */
#define FUSED 0
#include "isa.h"

#define ISA scalar

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
