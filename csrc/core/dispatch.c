/* The tables of kernels, one an ISA and dtype, and the question which of them this machine can use. */
#include <time.h>

#include "core/cpu.h"
#include "kernels/kernels.h"

#define FC_ISA(name) extern const fc_kernels fc_kernels_f32__##name, fc_kernels_f64__##name;
#include "isa/list.h"
#undef FC_ISA

static const struct {
  const char *name;
  const char *(*reason)(void);
  const fc_kernels *kernels[2];
} isas[] = {
#define FC_ISA(name) {#name, fc_cpu_reason_##name, {&fc_kernels_f32__##name, &fc_kernels_f64__##name}},
#include "isa/list.h"
#undef FC_ISA
};

int fc_version(void) { return FC_VERSION; }

int fc_isa_count(void) { return (int)(sizeof isas / sizeof isas[0]); }

const char *fc_isa_name(int isa) { return isa < 0 || isa >= fc_isa_count() ? 0 : isas[isa].name; }

const char *fc_isa_reason(int isa) {
  return isa < 0 || isa >= fc_isa_count() ? "there is no such instruction set" : isas[isa].reason();
}

const fc_kernels *fc_kernels_of(int isa, int type) {
  if (fc_isa_reason(isa) || (type != FC_F32 && type != FC_F64)) return 0;
  return isas[isa].kernels[type];
}

double fc_fma_peak(int isa, int type, int64_t count, double *flops) {
  const fc_kernels *kn = fc_kernels_of(isa, type);
  if (flops) *flops = 0;
  if (!kn || count < 0) return -1;
  union {
    float f32[2 * FC_MAX_LANES];
    double f64[2 * FC_MAX_LANES];
  } sink = {{0}};
  struct timespec from, to;
  clock_gettime(CLOCK_MONOTONIC, &from);
  kn->peak(count, &sink);
  clock_gettime(CLOCK_MONOTONIC, &to);
  if (flops) *flops = 2.0 * (double)count * kn->mr * (kn->nr / kn->vl) * kn->vl;
  return (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
}
