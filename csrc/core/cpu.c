/* Which instruction sets this CPU and operating system run. */
#include "kernels/kernels.h"
#include "core/cpu.h"

#if defined(__x86_64__)
const char *fc_cpu_reason_avx512(void) {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx512f")) return "the CPU or the operating system has no AVX-512F";
  if (!__builtin_cpu_supports("avx512vl")) return "the CPU has no AVX-512VL";
  if (!__builtin_cpu_supports("avx512dq")) return "the CPU has no AVX-512DQ";
  return 0;
}

const char *fc_cpu_reason_avx2(void) {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2")) return "the CPU or the operating system has no AVX2";
  if (!__builtin_cpu_supports("fma")) return "the CPU has no FMA";
  return 0;
}
#endif

#if defined(__aarch64__)
const char *fc_cpu_reason_neon(void) { return 0; }
#endif

const char *fc_cpu_reason_scalar(void) { return 0; }
