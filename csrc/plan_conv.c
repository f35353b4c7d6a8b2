/* Convolution plans: what is to be computed, and which algorithm does it.
 *
 * Forward and backward-input are one computation, dst[j] = sum over taps of wei[tap] src[j step + offset(tap)], after a
 * strided backward-input is split into its phases: the positions that have the same remainder by the stride see the
 * same taps, and among themselves form a dense convolution. A transposed convolution is backward-input. */
#include <stdio.h>

#include "conv.h"

/* The algorithms, in the order in which they are asked; the last of a direction neither refuses nor is slow. */
static const fc_algorithm *const candidates[] = {
    &fc_conv_winograd_filters_3x3,
    &fc_conv_winograd_filters_5x5,
    &fc_conv_winograd_3x3,
    &fc_conv_winograd_line_6,
    &fc_conv_winograd_line_8,
    &fc_conv_winograd_line_10,
    &fc_conv_winograd_5x5,
    &fc_conv_winograd_strided,
    &fc_conv_depthwise,
    &fc_conv_depthwise_strips,
    &fc_conv_lines,
    &fc_conv_direct,
    &fc_conv_rows,
    &fc_conv_pixels,
    &fc_conv_weight_winograd_3x3,
    &fc_conv_weight_winograd_5x5,
    &fc_conv_weight_winograd_line_6,
    &fc_conv_weight_winograd_line_8,
    &fc_conv_weight_winograd_line_10,
    &fc_conv_weight_winograd_strided,
    &fc_conv_weight_depthwise,
    &fc_conv_weight_depthwise_strips,
    &fc_conv_weight_lines,
    &fc_conv_weight_direct,
    &fc_conv_weight_pixels,
};

static int floor_mod(int64_t a, int64_t b) { return (int)(((a % b) + b) % b); }

/* Forward: one phase, which has every tap. */
static void forward_axis(fc_axis *a, const fc_conv_desc *d, int i) {
  a->count = d->out[i];
  a->src_step = d->stride[i];
  a->dst_base = 0;
  a->dst_step = 1;
  a->ntap = 0;
  for (int64_t t = 0; t < d->ker[i]; t++) {
    a->tap[a->ntap] = (int32_t)t;
    a->off[a->ntap++] = (int32_t)(t * d->dil[i] - d->pad[i]);
  }
}

/* Backward-input, remainder r: input position r + s j is read by output position j + (r + pad - t dil) / s. */
static void phase_axis(fc_axis *a, const fc_conv_desc *d, int i, int64_t r) {
  const int64_t s = d->stride[i];
  a->count = r < d->in[i] ? (d->in[i] - r + s - 1) / s : 0;
  a->src_step = 1;
  a->dst_base = r;
  a->dst_step = s;
  a->ntap = 0;
  for (int64_t t = 0; t < d->ker[i]; t++) {
    const int64_t o = r + d->pad[i] - t * d->dil[i];
    if (floor_mod(o, s)) continue;
    a->tap[a->ntap] = (int32_t)t;
    a->off[a->ntap++] = (int32_t)((o - floor_mod(o, s)) / s);
  }
}

static int make_phases(fc_conv_plan *p) {
  const fc_conv_desc *d = &p->d;
  const int back = d->direction == FC_BWD_INPUT;
  const int64_t most = back ? fc_product3(d->stride) : 1, taps = 2 * (d->ker[0] + d->ker[1] + d->ker[2]);
  p->phases = calloc((size_t)most, sizeof(fc_phase));
  p->taps = malloc((size_t)(most * taps) * sizeof(int32_t));
  if (!p->phases || !p->taps) return FC_ERROR_MEMORY;
  for (int64_t r = 0; r < most; r++) {
    fc_phase *ph = &p->phases[p->nphase];
    int32_t *list = p->taps + p->nphase * taps;
    const int64_t rest[3] = {r / (d->stride[1] * d->stride[2]), r / d->stride[2] % d->stride[1], r % d->stride[2]};
    ph->pixels = d->n;
    ph->k = p->sc;
    for (int i = 0; i < 3; i++) {
      fc_axis *a = &ph->ax[i];
      a->tap = list;
      a->off = list + d->ker[i];
      list += 2 * d->ker[i];
      if (back)
        phase_axis(a, d, i, rest[i]);
      else
        forward_axis(a, d, i);
      ph->pixels *= a->count;
      ph->k *= a->ntap;
    }
    if (!ph->pixels) continue;
    p->nphase++;
  }
  return FC_OK;
}

static double macs(const fc_conv_desc *d) {
  return (double)d->n * d->groups * d->icg * d->ocg * fc_product3(d->ker) *
         fc_product3(d->direction == FC_BWD_INPUT ? d->in : d->out) / (d->direction == FC_BWD_INPUT ? fc_product3(d->stride) : 1);
}

static int number_of(const fc_algorithm *a) {
  int i = 0;
  while (candidates[i] != a) i++;
  return 1 + i;
}

enum { ALGORITHMS = sizeof candidates / sizeof candidates[0] };

/* The plan that a tile's results are computed by where its values are too far apart. Its form of the weights must not depend
 * on strides, as they may come packed. */
static int make_direct(const fc_conv_desc *d, fc_conv_plan **direct) {
  fc_conv_desc to = *d;
  to.algorithm = number_of(d->direction == FC_BWD_WEIGHT ? &fc_conv_weight_pixels : &fc_conv_pixels);
  return fc_conv_plan_create(&to, direct);
}

/* Gives the plan its algorithm: the one asked for by name, or the first that can, should, and keeps within the limit; if
 * none does, the last that can and should. */
static int choose(fc_conv_plan *p) {
  const fc_conv_desc *d = &p->d;
  fc_conv_plan *direct = 0;
  char *why = p->reason;
  size_t left = sizeof p->reason;
  for (int i = 0; i < ALGORITHMS; i++) {
    const fc_algorithm *a = candidates[i];
    if (d->algorithm && d->algorithm != i + 1) continue;
    const char *reason = a->refuse(p);
    if (!reason && a->slow && !d->algorithm) reason = a->slow(p);
    int n = 0;
    if (!reason) {
      p->algorithm = a;
      p->direct = 0;
      if (a->prepare) a->prepare(p);
      if (a->tile) {
        const int status = direct ? FC_OK : make_direct(d, &direct);
        if (status) return status;
        p->direct = direct;
        fc_range_prepare(p);
      }
      const int64_t bytes = fc_conv_plan_workspace(p, 1, d->packed);
      if (d->algorithm || !d->limit || bytes <= d->limit) break;
      n = snprintf(why, left, "%s: refused, it takes %lld bytes of scratch and the limit is %lld\n", a->name, (long long)bytes,
                   (long long)d->limit);
    } else if (*reason) {
      n = snprintf(why, left, "%s: refused, %s\n", a->name, reason);
    }
    const size_t wrote = (size_t)n < left ? (size_t)n : left - 1;
    why += wrote;
    left -= wrote;
  }
  if (p->direct != direct) fc_conv_plan_destroy(direct);
  if (!p->algorithm) return FC_ERROR_REFUSED;
  snprintf(why, left, "%s%s", p->algorithm->name, d->algorithm ? ": asked for by name" : "");
  return FC_OK;
}

/* All that does not need memory. */
static int describe(fc_conv_plan *p, const fc_conv_desc *d) {
  memset(p, 0, sizeof *p);
  const fc_kernels *kn = fc_kernels_of(d->isa, d->dtype);
  if (!kn || d->n < 1 || d->groups < 1 || d->icg < 1 || d->ocg < 1 || d->direction < FC_FWD || d->direction > FC_BWD_WEIGHT)
    return FC_ERROR_ARGUMENT;
  if (d->algorithm < 0 || d->algorithm > ALGORITHMS) return FC_ERROR_ARGUMENT;
  for (int i = 0; i < 3; i++)
    if (d->in[i] < 1 || d->out[i] < 1 || d->ker[i] < 1 || d->stride[i] < 1 || d->dil[i] < 1) return FC_ERROR_ARGUMENT;
  p->d = *d;
  p->kn = kn;
  p->es = d->dtype == FC_F32 ? 4 : 8;
  const int back = d->direction == FC_BWD_INPUT;
  p->sc = back ? d->ocg : d->icg;
  p->dc = back ? d->icg : d->ocg;
  p->wm = d->ws[back ? 1 : 0];
  p->wk = d->ws[back ? 0 : 1];
  memcpy(p->src, back ? d->out : d->in, sizeof p->src);
  memcpy(p->dst, back ? d->in : d->out, sizeof p->dst);
  memcpy(p->ss, back ? d->ys : d->xs, sizeof p->ss);
  memcpy(p->ds, back ? d->xs : d->ys, sizeof p->ds);
  return FC_OK;
}

int fc_conv_algorithm_count(void) { return ALGORITHMS; }

const char *fc_conv_algorithm_name(int algorithm) { return candidates[algorithm]->name; }

const char *fc_conv_algorithm_refusal(const fc_conv_desc *d, int algorithm) {
  fc_conv_plan p;
  return describe(&p, d) ? "the description is not one" : candidates[algorithm]->refuse(&p);
}

int fc_conv_plan_create(const fc_conv_desc *d, fc_conv_plan **out) {
  *out = 0;
  fc_conv_plan *p = malloc(sizeof *p);
  if (!p) return FC_ERROR_MEMORY;
  int status = describe(p, d);
  if (!status) status = make_phases(p);
  if (!status) status = choose(p);
  if (status)
    fc_conv_plan_destroy(p);
  else
    *out = p;
  return status;
}

void fc_conv_plan_destroy(fc_conv_plan *p) {
  if (!p) return;
  fc_conv_plan_destroy(p->direct);
  free(p->phases);
  free(p->taps);
  free(p);
}

const char *fc_conv_plan_algorithm(const fc_conv_plan *p) { return p->algorithm->name; }

const char *fc_conv_plan_reason(const fc_conv_plan *p) { return p->reason; }

int64_t fc_conv_own_packed_bytes(const fc_conv_plan *p) {
  if (!p->algorithm->packed) return 0;
  return fc_round_up(p->algorithm->packed(p) * p->es, FC_ALIGN) + (p->direct ? fc_range_parts_bytes(p) : 0) + FC_ALIGN;
}

int64_t fc_conv_plan_packed_bytes(const fc_conv_plan *p) {
  return fc_conv_own_packed_bytes(p) + (p->direct ? fc_conv_own_packed_bytes(p->direct) : 0);
}

int fc_conv_plan_threads(const fc_conv_plan *p, int nthreads) { return macs(&p->d) < FC_SERIAL_MACS ? 1 : nthreads; }

int64_t fc_conv_own_workspace(const fc_conv_plan *p, int nthreads, int packed) {
  fc_conv_call call = {.p = p};
  p->algorithm->pieces(&call, nthreads);
  const int64_t weights = packed || p->algorithm->execute ? 0 : fc_round_up(fc_conv_own_packed_bytes(p), FC_ALIGN);
  return weights + call.shared + fc_max(1, nthreads) * call.scratch + 2 * FC_ALIGN;
}

int64_t fc_conv_plan_workspace(const fc_conv_plan *p, int nthreads, int packed) {
  const int64_t own = fc_conv_own_workspace(p, nthreads, packed);
  if (!p->direct) return own;
  return fc_range_workspace(p, nthreads) + fc_max(own, fc_conv_own_workspace(p->direct, nthreads, packed));
}

int fc_conv_pack(const fc_conv_plan *p, const void *w, void *packed, int nthreads) {
  const int status = p->algorithm->pack ? p->algorithm->pack(p, w, fc_aligned(packed), nthreads) : FC_OK;
  return status || !p->direct ? status : fc_conv_pack(p->direct, w, (char *)packed + fc_conv_own_packed_bytes(p), nthreads);
}

int fc_conv_own_run(fc_conv_call *call, const void *packed, int nthreads) {
  const fc_conv_plan *p = call->p;
  if (p->algorithm->execute) {
    call->packed = packed ? fc_aligned((void *)packed) : 0;
    if (packed && p->direct) call->filters = fc_range_packed(p, call->packed);
    return p->algorithm->execute(call, nthreads);
  }
  if (p->algorithm->packed) {
    if (!packed) {
      packed = call->workspace;
      const int status = p->algorithm->pack(p, call->second, call->workspace, nthreads);
      if (status) return status;
      call->workspace += fc_round_up(fc_conv_own_packed_bytes(p), FC_ALIGN);
    }
    call->packed = fc_aligned((void *)packed);
    if (p->direct) call->filters = fc_range_packed(p, call->packed);
  }
  return fc_parallel_for(nthreads, p->algorithm->pieces(call, nthreads), p->algorithm->run, call);
}

int fc_conv_run(const fc_conv_plan *p, const void *first, const void *second, const void *packed, const void *bias,
                const void *add, void *result, void *workspace, int nthreads) {
  fc_conv_call call = {
      .p = p, .first = first, .second = second, .bias = bias, .add = add, .result = result, .workspace = fc_aligned(workspace)};
  return (p->direct ? fc_range_run : fc_conv_own_run)(&call, packed, nthreads);
}
