/* What is the same for the plans of all operators: checks, threads and scratch, and programs of many steps. */
#include "core/plan.h"

#include "core/threads.h"
#include "kernels/kernels.h"

void fc_plan_destroy(fc_plan *plan) {
  if (plan) plan->does->destroy(plan);
}

const char *fc_plan_algorithm(const fc_plan *plan) { return plan ? plan->algorithm : 0; }

int64_t fc_plan_packed_bytes(const fc_plan *plan) { return plan ? plan->packed_bytes : 0; }

int64_t fc_plan_workspace(const fc_plan *plan, int nthreads, int packed) {
  if (!plan) return -1;
  return plan->does->workspace ? plan->does->workspace(plan, fc_usable_threads(nthreads), packed) : 0;
}

int fc_plan_threads(const fc_plan *plan, int nthreads, int packed) {
  int n = !plan || plan->serial ? 1 : fc_usable_threads(nthreads);
  while (n > 1 && plan->limit && fc_plan_workspace(plan, n, packed) > plan->limit) n--;
  return n;
}

int fc_plan_pack(const fc_plan *plan, const void *w, void *packed, int nthreads) {
  if (!plan || (plan->packed_bytes && !(w && packed))) return FC_ERROR_ARGUMENT;
  return plan->packed_bytes ? plan->does->pack(plan, w, packed, fc_usable_threads(nthreads)) : FC_OK;
}

/* Are all arrays there that the plan needs? Packed weights are as good as others where it takes such. */
static int complete(const fc_plan *plan, void *const *arrays) {
  unsigned missing = plan->needs;
  for (int i = 0; i < FC_SLOTS; i++)
    if (arrays[i]) missing &= ~FC_BIT(i == FC_PACKED && plan->packed_bytes ? FC_W : i);
  return !missing;
}

static int run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads) {
  return plan->does->run(plan, arrays, fc_aligned(workspace), fc_usable_threads(nthreads));
}

int fc_run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads) {
  if (!plan || !arrays || !complete(plan, arrays) || (plan->does->workspace && !workspace)) return FC_ERROR_ARGUMENT;
  return run(plan, arrays, workspace, nthreads);
}

/* The arrays of a step; 0 if it names a buffer that there is not. */
static int find(const fc_step *step, void *const *buffers, int64_t nbuffers, void *arrays[FC_SLOTS]) {
  for (int i = 0; i < FC_SLOTS; i++) {
    const int32_t number = step->buffer[i];
    if (number < -1 || number >= nbuffers) return 0;
    char *buffer = number < 0 ? 0 : buffers[number];
    arrays[i] = buffer ? buffer + step->offset[i] : 0;
  }
  return 1;
}

static int packed(const fc_step *step) { return step->buffer[FC_PACKED] >= 0; }

int64_t fc_steps_workspace(const fc_step *steps, int64_t count, int nthreads) {
  int64_t most = 0;
  if (count > 0 && !steps) return -1;
  for (int64_t i = 0; i < count; i++) {
    const fc_step *s = &steps[i];
    if (!s->plan) return -1;
    most = fc_max(most, fc_plan_workspace(s->plan, fc_plan_threads(s->plan, nthreads, packed(s)), packed(s)));
  }
  return most;
}

int fc_run_steps(const fc_step *steps, int64_t count, void *const *buffers, int64_t nbuffers, void *workspace, int nthreads) {
  void *arrays[FC_SLOTS];
  if (count < 0 || (count && !steps) || nbuffers < 0 || (nbuffers && !buffers)) return FC_ERROR_ARGUMENT;
  for (int64_t i = 0; i < count; i++) {
    const fc_plan *plan = steps[i].plan;
    if (!plan || !find(&steps[i], buffers, nbuffers, arrays) || !complete(plan, arrays) || (plan->does->workspace && !workspace))
      return FC_ERROR_ARGUMENT;
  }
  int status = FC_OK;
  for (int64_t i = 0; i < count && !status; i++) {
    find(&steps[i], buffers, nbuffers, arrays);
    status = run(steps[i].plan, arrays, workspace, fc_plan_threads(steps[i].plan, nthreads, packed(&steps[i])));
  }
  return status;
}
