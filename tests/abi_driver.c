/* The library in another program: nothing but fastconv.h and the shared library that Python's extension is, without Python.
 *
 *     cc -I fastconv tests/abi_driver.c -ldl -o abi_driver && ./abi_driver fastconv/_c.abi3.so
 *
 * The functions of Python that the library names are never called, so it has to be loaded with RTLD_LAZY. Where the system
 * links lazily and lets a library lack symbols it can be linked to as well: cc -DLINKED -I fastconv tests/abi_driver.c
 * fastconv/_c.abi3.so -Wl,-rpath,$PWD/fastconv -Wl,--allow-shlib-undefined.
 *
 * A convolution by packed weights, its maxima, and a product with them, as a program of three steps on one buffer. Numbers are
 * whole, so what comes out is known. Says what it ran on, and returns 0 if all is as it should be. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "fastconv.h"

#ifdef LINKED
#define CALL(name) name
#else
static void *library;

static void *function(const char *name) {
  void *found = dlsym(library, name);
  if (found) return found;
  printf("there is no %s\n", name);
  exit(1);
}

#define CALL(name) ((__typeof__(&name))function(#name))
#endif

enum { SIDE = 6, POOLED = 3, CHANNELS = 2 };

/* Elements of the buffer before which the arrays begin. */
enum {
  X = 0,
  Y = X + SIDE * SIDE,
  MAXIMA = Y + CHANNELS * SIDE * SIDE,
  OUT = MAXIMA + CHANNELS * POOLED * POOLED,
  ALL = OUT + 1
};

static int check(int right, const char *what) {
  if (!right) printf("wrong: %s\n", what);
  return !right;
}

static fc_step step(fc_plan *plan) {
  fc_step s = {.plan = plan};
  for (int i = 0; i < FC_SLOTS; i++) s.buffer[i] = -1;
  return s;
}

static void place(fc_step *s, int slot, int buffer, int64_t element) {
  s->buffer[slot] = buffer;
  s->offset[slot] = element * (int64_t)sizeof(float);
}

int main(int count, char **names) {
#ifndef LINKED
  library = count > 1 ? dlopen(names[1], RTLD_LAZY | RTLD_LOCAL) : 0;
  if (!library) {
    printf("%s\n", count > 1 ? dlerror() : "which library?");
    return 1;
  }
#else
  (void)count, (void)names;
#endif
  int wrong = check(CALL(fc_version)() == FC_VERSION, "the version");
  int isa = 0;
  while (CALL(fc_isa_reason)(isa)) isa++;

  /* Both channels are x itself: 3x3 filters with a one in the middle. The second is negative. */
  float weights[CHANNELS][9] = {{0, 0, 0, 0, 1}, {0, 0, 0, 0, -1}}, column[CHANNELS * POOLED * POOLED], buffer[ALL];
  const fc_types types = {FC_F32, FC_F32, FC_F32, FC_F32};
  fc_conv_desc conv = {.types = types,
                       .direction = FC_FWD,
                       .isa = isa,
                       .packed = 1,
                       .n = 1,
                       .groups = 1,
                       .icg = 1,
                       .ocg = CHANNELS,
                       .x_size = {1, SIDE, SIDE},
                       .y_size = {1, SIDE, SIDE},
                       .ker = {1, 3, 3},
                       .stride = {1, 1, 1},
                       .pad = {0, 1, 1},
                       .dil = {1, 1, 1},
                       .x_stride = {0, 0, 0, SIDE, 1},
                       .y_stride = {0, SIDE * SIDE, 0, SIDE, 1},
                       .w_stride = {9, 9, 9, 3, 1}};
  fc_pool_desc pool = {.kind = FC_MAX,
                       .direction = FC_FWD,
                       .types = types,
                       .isa = isa,
                       .n = 1,
                       .c = CHANNELS,
                       .x_size = {1, SIDE, SIDE},
                       .y_size = {1, POOLED, POOLED},
                       .ker = {1, 2, 2},
                       .stride = {1, 2, 2},
                       .dil = {1, 1, 1},
                       .x_stride = {0, SIDE * SIDE, 0, SIDE, 1},
                       .y_stride = {0, POOLED * POOLED, 0, POOLED, 1}};
  fc_gemm_desc gemm = {.types = types,
                       .isa = isa,
                       .batch = 1,
                       .m = 1,
                       .n = 1,
                       .k = CHANNELS * POOLED * POOLED,
                       .a_stride = {0, 0, 1},
                       .b_stride = {0, 1, 1},
                       .out_stride = {1, 1, 1},
                       .alpha = 1};
  fc_plan *plans[3] = {0};
  wrong += check(CALL(fc_plan_conv)(&conv, &plans[0]) == FC_OK, "a convolution");
  wrong += check(CALL(fc_plan_pool)(&pool, &plans[1]) == FC_OK, "a pooling");
  wrong += check(CALL(fc_plan_gemm)(&gemm, &plans[2]) == FC_OK, "a product");
  conv.types.acc = FC_F64;
  fc_plan *none;
  wrong += check(CALL(fc_plan_conv)(&conv, &none) == FC_ERROR_UNSUPPORTED && !none, "a convolution of types that differ");
  conv.types = types;
  conv.ker[1] = 0;
  wrong += check(CALL(fc_plan_conv)(&conv, &none) == FC_ERROR_ARGUMENT && !none, "a convolution by no filters");
  if (wrong) return 1;

  const int64_t bytes = CALL(fc_plan_packed_bytes)(plans[0]);
  void *packed = bytes ? malloc((size_t)bytes) : weights;
  if (bytes) wrong += check(CALL(fc_plan_pack)(plans[0], weights, packed, 1) == FC_OK, "packing");
  fc_step steps[] = {step(plans[0]), step(plans[1]), step(plans[2])};
  place(&steps[0], FC_X, 0, X);
  place(&steps[0], bytes ? FC_PACKED : FC_W, 1, 0);
  place(&steps[0], FC_Y, 0, Y);
  place(&steps[1], FC_X, 0, Y);
  place(&steps[1], FC_Y, 0, MAXIMA);
  place(&steps[2], FC_A, 0, MAXIMA);
  place(&steps[2], FC_B, 2, 0);
  place(&steps[2], FC_OUT, 0, OUT);
  void *buffers[] = {buffer, packed, column}, *workspace = malloc((size_t)CALL(fc_steps_workspace)(steps, 3, 2));
  for (int i = 0; i < SIDE * SIDE; i++) buffer[X + i] = (float)i;
  for (int i = 0; i < CHANNELS * POOLED * POOLED; i++) column[i] = 1;
  wrong += check(CALL(fc_run_steps)(steps, 3, buffers, 2, workspace, 2) == FC_ERROR_ARGUMENT, "a buffer that there is not");
  wrong += check(CALL(fc_run_steps)(steps, 3, buffers, 3, workspace, 2) == FC_OK, "the program");
  /* Of each 2 x 2 the last is the largest, and the first the largest below 0: they differ by a row and a column. */
  wrong += check(buffer[MAXIMA] == SIDE + 1 && buffer[OUT] == POOLED * POOLED * (SIDE + 1), "the result");

  printf("version %d on %s: %s, %s, %s\n", CALL(fc_version)(), CALL(fc_isa_name)(isa), CALL(fc_plan_algorithm)(plans[0]),
         CALL(fc_plan_algorithm)(plans[1]), CALL(fc_plan_algorithm)(plans[2]));
  for (int i = 0; i < 3; i++) CALL(fc_plan_destroy)(plans[i]);
  if (bytes) free(packed);
  free(workspace);
  return wrong;
}
