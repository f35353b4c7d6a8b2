/* Plain C, one lane: runs everywhere, and shows whatever is wrong in a body without a vector's help. */
#include "isa.h"

#define ISA scalar

#define DTYPE f32
#define T float
#include "scalar_vocabulary.h"
#include "bodies.h"

#define DTYPE f64
#define T double
#include "scalar_vocabulary.h"
#include "bodies.h"
