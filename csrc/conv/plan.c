/* Convolution plans: what is to be computed, and which algorithm does it.
 *
 * Forward and backward-input are one computation, dst[j] = sum over taps of wei[tap] src[j step + offset(tap)], after a
 * strided backward-input is split into its phases: the positions that have the same remainder by the stride see the
 * same taps, and among themselves form a dense convolution. A transposed convolution is backward-input. */
#include <stdarg.h>
#include <stdio.h>

#include "core/check.h"
#include "conv/conv.h"

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
    &fc_conv_depthwise_rows,
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

/* What lies between the elements of an array, by padding, stride and dilation, is limited as in fastconv.spec. */
enum { MOST_PADDED = 1 << 18, MOST_PHASES = 1 << 18 };

/* Phases along an axis, and of all. */
static int64_t axis_phases(const fc_conv_desc *d, int i) {
  return d->direction == FC_BWD_INPUT ? fc_min(d->stride[i], d->x_size[i]) : 1;
}

static int64_t all_phases(const fc_conv_desc *d) { return axis_phases(d, 0) * axis_phases(d, 1) * axis_phases(d, 2); }

/* The phases of an axis and their taps, of which each is in one phase at most. Forward there is one, which has every tap.
 * Backward-input, position r + s j is read by output position j + (r + pad - t dil) / s for each tap t that leaves no rest. */
static void make_axis(fc_axis *phases, int32_t *taps, const fc_conv_desc *d, int i) {
  const int back = d->direction == FC_BWD_INPUT;
  const int64_t count = axis_phases(d, i), s = back ? d->stride[i] : 1, pad = d->pad[i], dil = d->dil[i];
  for (int64_t r = 0; r < count; r++)
    phases[r] = back ? (fc_axis){.count = fc_div_up(d->x_size[i] - r, s), .src_step = 1, .dst_base = r, .dst_step = s}
                     : (fc_axis){.count = d->y_size[i], .src_step = d->stride[i], .dst_step = 1};
  /* First only counted. */
  for (int place = 0; place < 2; place++) {
    for (int64_t t = 0; t < d->ker[i]; t++) {
      const int64_t at = t * dil - pad, r = (at % s + s) % s;
      if (r >= count) continue;
      fc_axis *a = &phases[r];
      if (place) {
        a->tap[a->ntap] = (int32_t)t;
        a->off[a->ntap] = (int32_t)(back ? (r - at) / s : at);
      }
      a->ntap++;
    }
    for (int64_t r = 0; r < count && !place; r++) {
      phases[r].tap = taps;
      phases[r].off = taps + phases[r].ntap;
      taps += 2 * phases[r].ntap;
      phases[r].ntap = 0;
    }
  }
}

static int make_phases(fc_conv_plan *p) {
  const fc_conv_desc *d = &p->d;
  const int64_t *ker = d->ker, high = axis_phases(d, 1), wide = axis_phases(d, 2), deep = axis_phases(d, 0);
  fc_axis *axes = malloc((size_t)(deep + high + wide) * sizeof *axes);
  p->phases = malloc((size_t)all_phases(d) * sizeof *p->phases);
  p->taps = malloc((size_t)(2 * (ker[0] + ker[1] + ker[2])) * sizeof *p->taps);
  if (!axes || !p->phases || !p->taps) {
    free(axes);
    return FC_ERROR_MEMORY;
  }
  make_axis(axes, p->taps, d, 0);
  make_axis(axes + deep, p->taps + 2 * ker[0], d, 1);
  make_axis(axes + deep + high, p->taps + 2 * (ker[0] + ker[1]), d, 2);
  for (p->nphase = 0; p->nphase < all_phases(d); p->nphase++) {
    fc_phase *ph = &p->phases[p->nphase];
    *ph = (fc_phase){
        .ax = {axes[p->nphase / wide / high], axes[deep + p->nphase / wide % high], axes[deep + high + p->nphase % wide]},
        .k = p->src_channels,
        .pixels = d->n};
    for (int i = 0; i < 3; i++) {
      ph->pixels *= ph->ax[i].count;
      ph->k *= ph->ax[i].ntap;
    }
  }
  free(axes);
  return FC_OK;
}

void fc_reach(const fc_conv_plan *p, int64_t low[3], int64_t span[3], int64_t most[3]) {
  for (int i = 0; i < 3; i++) {
    int64_t lo = 0, hi = 0;
    int any = 0;
    most[i] = 0;
    for (int f = 0; f < p->nphase; f++) {
      const fc_axis *a = &p->phases[f].ax[i];
      for (int t = 0; t < a->ntap; t++) {
        lo = any ? fc_min(lo, a->off[t]) : a->off[t];
        hi = any ? fc_max(hi, a->off[t]) : a->off[t];
        any = 1;
      }
      most[i] = fc_max(most[i], a->count);
    }
    low[i] = lo;
    span[i] = hi - lo + 1;
  }
}

static double macs(const fc_conv_desc *d) {
  const int back = d->direction == FC_BWD_INPUT;
  const double all = (double)d->n * d->groups * d->icg * d->ocg * fc_product3(d->ker) * fc_product3(back ? d->x_size : d->y_size);
  return back ? all / ((double)d->stride[0] * d->stride[1] * d->stride[2]) : all;
}

static int number_of(const fc_algorithm *a) {
  int i = 0;
  while (candidates[i] != a) i++;
  return 1 + i;
}

enum { ALGORITHMS = sizeof candidates / sizeof candidates[0] };

/* Why a plan is as it is, as far as somebody asks and it fits. */
typedef struct sentences {
  char *at;
  size_t left;
} sentences;

static void say(sentences *to, const char *format, ...) {
  if (!to || to->left == 0) return;
  va_list arguments;
  va_start(arguments, format);
  const int n = vsnprintf(to->at, to->left, format, arguments);
  va_end(arguments);
  const size_t wrote = n < 0 ? 0 : (size_t)n < to->left ? (size_t)n : to->left - 1;
  to->at += wrote;
  to->left -= wrote;
}

static void free_plan(fc_conv_plan *p) {
  if (!p) return;
  free_plan(p->direct);
  free(p->state);
  free(p->phases);
  free(p->taps);
  free(p);
}

/* Whether the arrays' strides are such as an algorithm asks for: why not, or NULL. */
static const char *refuse_strides(const fc_conv_plan *p, int asked) {
  const int64_t *ss = p->src_stride, *ds = p->dst_stride, *as = p->d.has_add ? p->d.add_stride : ds;
  if (asked & FC_SOURCE_CHANNELS && ss[1] != 1) return "the channels are not contiguous";
  if (asked & FC_RESULT_CHANNELS && ds[1] != 1) return "the channels are not contiguous";
  if (asked & FC_ADD_CHANNELS && as[1] != 1) return "the channels are not contiguous";
  if (asked & FC_RESULT_PIXELS && (ds[4] != 1 || as[4] != 1)) return "the pixels of the result are not contiguous";
  if (asked & FC_SOURCE_AHEAD && !fc_between(ss[4], 0, FC_PIXELS_APART)) return "pixels run backwards or lie far apart";
  return 0;
}

/* Why an algorithm, which the plan has from here on, cannot compute it, or NULL. */
static const char *refusal(fc_conv_plan *p, const fc_algorithm *a) {
  p->algorithm = a;
  if (!(a->directions & FC_BIT(p->d.direction))) return "";
  const char *reason = a->refuse ? a->refuse(p) : 0;
  return reason ? reason : refuse_strides(p, a->strides);
}

static int make_plan(const fc_conv_desc *d, fc_conv_plan **plan, sentences *why);

/* The plan that a tile's results are computed by where its values are too far apart. Its form of the weights must not depend
 * on strides, as they may come packed. */
static int make_direct(const fc_conv_desc *d, fc_conv_plan **direct) {
  fc_conv_desc to = *d;
  to.algorithm = number_of(d->direction == FC_BWD_WEIGHT ? &fc_conv_weight_pixels : &fc_conv_pixels);
  return make_plan(&to, direct, 0);
}

static int64_t workspace(const fc_plan *plan, int nthreads, int packed) {
  const fc_conv_plan *p = (const fc_conv_plan *)plan;
  const int64_t own = fc_conv_own_workspace(p, nthreads, packed);
  if (!p->direct) return own;
  return fc_range_workspace(p, nthreads) + fc_max(own, fc_conv_own_workspace(p->direct, nthreads, packed));
}

/* Gives the plan its algorithm: the one asked for by name, or the first that can, should, and keeps within the limit; if
 * none does, the last that can and should. */
static int choose(fc_conv_plan *p, sentences *why) {
  const fc_conv_desc *d = &p->d;
  const fc_algorithm *last = 0;
  int status = FC_OK;
  fc_conv_plan *direct = 0;
  for (int i = 0; i < ALGORITHMS; i++) {
    const fc_algorithm *a = candidates[i];
    if (d->algorithm && d->algorithm != i + 1) continue;
    const char *reason = refusal(p, a);
    if (!reason && a->slow && !d->algorithm) reason = a->slow(p);
    if (reason) {
      if (*reason) say(why, "%s: refused, %s\n", a->name, reason);
      continue;
    }
    last = a;
    p->direct = 0;
    free(p->state);
    p->state = a->state ? calloc(1, a->state) : 0;
    if (a->state && !p->state) {
      status = FC_ERROR_MEMORY;
      break;
    }
    if (a->prepare) a->prepare(p);
    if (a->tile) {
      status = direct ? FC_OK : make_direct(d, &direct);
      if (status) break;
      p->direct = direct;
      fc_range_prepare(p);
    }
    const int64_t bytes = workspace(&p->head, 1, d->packed);
    if (d->algorithm || !d->limit || bytes <= d->limit) break;
    say(why, "%s: refused, it takes %lld bytes of scratch and the limit is %lld\n", a->name, (long long)bytes,
        (long long)d->limit);
  }
  if (p->direct != direct) free_plan(direct);
  p->algorithm = last;
  if (status || !last) return status ? status : FC_ERROR_REFUSED;
  say(why, "%s%s", p->algorithm->name, d->algorithm ? ": asked for by name" : "");
  return FC_OK;
}

/* Whether a step or tap along an axis goes nowhere that 32 bits cannot say: positions of the padded source, offsets of taps,
 * and what is between any two of them. */
static int axis_known(const fc_conv_desc *d, int i) {
  const int64_t numbers[] = {d->x_size[i], d->y_size[i], d->ker[i], d->stride[i], d->dil[i]};
  for (int k = 0; k < 5; k++)
    if (!fc_between(numbers[k], 1, FC_MOST)) return 0;
  if (!fc_between(d->pad[i], -FC_MOST, FC_MOST)) return 0;
  /* Two products of two numbers below 2^31, and less. */
  return d->x_size[i] + llabs(d->pad[i]) + (d->y_size[i] - 1) * d->stride[i] + (d->ker[i] - 1) * d->dil[i] <= FC_MOST;
}

/* Whether copies of the padded source, and tables for it, are in proportion to the arrays: they may have so many positions. */
static int in_proportion(const fc_conv_desc *d) {
  double padded = 1, arrays = (double)fc_product3(d->x_size) + (double)fc_product3(d->y_size);
  for (int i = 0; i < 3; i++) padded *= (double)((d->y_size[i] - 1) * d->stride[i] + (d->ker[i] - 1) * d->dil[i] + 1);
  return padded <= MOST_PADDED + 16 * arrays && all_phases(d) <= MOST_PHASES;
}

/* Whether the address of every position that taps of an array name, in the padding or not, is a sum that 64 bits hold. */
static int strides_known(const int64_t strides[5], const int64_t reach[5]) {
  double far = 0;
  for (int i = 0; i < 5; i++) far += fabs((double)strides[i]) * (double)reach[i];
  return far < 0x1p59;
}

/* All that does not need memory; a description is looked at whole, before it is computed with. */
static int describe(fc_conv_plan *p, const fc_conv_desc *d) {
  memset(p, 0, sizeof *p);
  if (!d) return FC_ERROR_ARGUMENT;
  const int status = fc_find_kernels(&p->kn, d->isa, &d->types);
  if (status) return status;
  const int weight = d->direction == FC_BWD_WEIGHT;
  if (!fc_between(d->direction, FC_FWD, FC_BWD_WEIGHT) || !fc_between(d->algorithm, 0, ALGORITHMS) || d->limit < 0 ||
      !fc_act_known(&d->act) || (weight && (d->has_bias || d->has_add || d->act.kind != FC_ACT_NONE)))
    return FC_ERROR_ARGUMENT;
  for (int i = 0; i < 3; i++)
    if (!axis_known(d, i)) return FC_ERROR_ARGUMENT;
  const int64_t x[] = {d->n, d->groups, d->icg, d->x_size[0], d->x_size[1], d->x_size[2]};
  const int64_t y[] = {d->n, d->groups, d->ocg, d->y_size[0], d->y_size[1], d->y_size[2]};
  const int64_t w[] = {d->groups, d->ocg, d->icg, d->ker[0], d->ker[1], d->ker[2]};
  if (!fc_elements(x, 6) || !fc_elements(y, 6) || !fc_elements(w, 6) || !in_proportion(d)) return FC_ERROR_ARGUMENT;
  const int back = d->direction == FC_BWD_INPUT;
  const int64_t x5[] = {d->n, d->groups * d->icg, d->x_size[0], d->x_size[1], d->x_size[2]};
  const int64_t y5[] = {d->n, d->groups * d->ocg, d->y_size[0], d->y_size[1], d->y_size[2]};
  const int64_t w5[] = {d->groups * d->ocg, d->icg, d->ker[0], d->ker[1], d->ker[2]};
  p->d = *d;
  if (!d->has_add) memset(p->d.add_stride, 0, sizeof p->d.add_stride);
  /* No step is taken from a single result: a longer one than the padded source would be room for nothing. */
  for (int i = 0; i < 3; i++)
    if (d->y_size[i] == 1) p->d.stride[i] = fc_min(d->stride[i], d->x_size[i] + llabs(d->pad[i]) + (d->ker[i] - 1) * d->dil[i]);
  d = &p->d;
  if (!fc_settle(p->d.x_stride, x5, 5) || !fc_settle(p->d.y_stride, y5, 5) || !fc_settle(p->d.w_stride, w5, 5) ||
      !fc_settle(p->d.add_stride, back ? x5 : y5, 5) ||
      !(weight ? fc_apart(d->w_stride, w5, 5)
        : back ? fc_apart(d->x_stride, x5, 5)
               : fc_apart(d->y_stride, y5, 5)))
    return FC_ERROR_ARGUMENT;
  const int64_t image[] = {d->n, d->groups * fc_max(d->icg, d->ocg), FC_MOST, FC_MOST, FC_MOST};
  const int64_t filters[] = {d->groups * d->ocg, d->icg, d->ker[0], d->ker[1], d->ker[2]};
  if (!strides_known(d->x_stride, image) || !strides_known(d->y_stride, image) || !strides_known(d->w_stride, filters) ||
      (d->has_add && !strides_known(d->add_stride, image)))
    return FC_ERROR_REFUSED;
  p->es = fc_bytes(d->types.x);
  p->src_channels = back ? d->ocg : d->icg;
  p->dst_channels = back ? d->icg : d->ocg;
  p->w_dst = d->w_stride[back ? 1 : 0];
  p->w_src = d->w_stride[back ? 0 : 1];
  memcpy(p->src_size, back ? d->y_size : d->x_size, sizeof p->src_size);
  memcpy(p->dst_size, back ? d->x_size : d->y_size, sizeof p->dst_size);
  memcpy(p->src_stride, back ? d->y_stride : d->x_stride, sizeof p->src_stride);
  memcpy(p->dst_stride, back ? d->x_stride : d->y_stride, sizeof p->dst_stride);
  return FC_OK;
}

int fc_conv_algorithm_count(void) { return ALGORITHMS; }

const char *fc_conv_algorithm_name(int algorithm) {
  return fc_between(algorithm, 0, ALGORITHMS - 1) ? candidates[algorithm]->name : 0;
}

const char *fc_conv_algorithm_refusal(const fc_conv_desc *d, int algorithm) {
  fc_conv_plan p;
  if (!fc_between(algorithm, 0, ALGORITHMS - 1)) return "there is no such algorithm";
  const int status = describe(&p, d);
  if (status == FC_ERROR_UNSUPPORTED) return "there are no kernels for these types";
  return status ? "the description is not one" : refusal(&p, candidates[algorithm]);
}

int64_t fc_conv_own_packed_bytes(const fc_conv_plan *p) {
  if (!p->algorithm->packed) return 0;
  return fc_round_up(p->algorithm->packed(p) * p->es, FC_ALIGN) + (p->direct ? fc_range_parts_bytes(p) : 0) + FC_ALIGN;
}

static int in_place(const fc_conv_plan *p) { return p->algorithm->in_place && p->algorithm->in_place(p); }

int64_t fc_conv_own_workspace(const fc_conv_plan *p, int nthreads, int packed) {
  fc_conv_call call = {.p = p};
  p->algorithm->pieces(&call, nthreads);
  const int64_t weights = packed || p->algorithm->execute || in_place(p) ? 0 : fc_round_up(fc_conv_own_packed_bytes(p), FC_ALIGN);
  return weights + call.shared + nthreads * call.scratch + 2 * FC_ALIGN;
}

static int own_pack(const fc_conv_plan *p, const void *w, void *packed, int nthreads) {
  return p->algorithm->pack ? p->algorithm->pack(p, w, fc_aligned(packed), nthreads) : FC_OK;
}

static int pack(const fc_plan *plan, const void *w, void *packed, int nthreads) {
  const fc_conv_plan *p = (const fc_conv_plan *)plan;
  const int status = own_pack(p, w, packed, nthreads);
  return status || !p->direct ? status : own_pack(p->direct, w, (char *)packed + fc_conv_own_packed_bytes(p), nthreads);
}

int fc_conv_own_run(fc_conv_call *call, const void *packed, int nthreads) {
  const fc_conv_plan *p = call->p;
  if (p->algorithm->execute) {
    call->packed = packed ? fc_aligned((void *)packed) : 0;
    if (packed && p->direct) call->filters = fc_range_packed(p, call->packed);
    return p->algorithm->execute(call, nthreads);
  }
  if (p->algorithm->packed && (packed || !in_place(p))) {
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

/* Of each direction the slots of its two operands and of its result. */
static const int slots[][3] = {{FC_X, FC_W, FC_Y}, {FC_Y, FC_W, FC_X}, {FC_X, FC_Y, FC_W}};

static int run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads) {
  const fc_conv_plan *p = (const fc_conv_plan *)plan;
  const int *slot = slots[p->d.direction];
  fc_conv_call call = {.p = p,
                       .first = arrays[slot[0]],
                       .second = arrays[slot[1]],
                       .bias = p->d.has_bias ? arrays[FC_BIAS] : 0,
                       .add = p->d.has_add ? arrays[FC_ADD] : 0,
                       .result = arrays[slot[2]],
                       .workspace = workspace};
  return (p->direct ? fc_range_run : fc_conv_own_run)(&call, plan->packed_bytes ? arrays[FC_PACKED] : 0, nthreads);
}

static void destroy(fc_plan *plan) { free_plan((fc_conv_plan *)plan); }

static const fc_operator conv = {.destroy = destroy, .run = run, .workspace = workspace, .pack = pack};

static int make_plan(const fc_conv_desc *d, fc_conv_plan **out, sentences *why) {
  fc_conv_plan *p = malloc(sizeof *p);
  if (!p) return FC_ERROR_MEMORY;
  int status = describe(p, d);
  if (!status) status = make_phases(p);
  if (!status) status = choose(p, why);
  if (status) {
    free_plan(p);
    return status;
  }
  p->head = (fc_plan){.does = &conv,
                      .algorithm = p->algorithm->name,
                      .needs = FC_BIT(FC_X) | FC_BIT(FC_W) | FC_BIT(FC_Y) | (d->has_bias ? FC_BIT(FC_BIAS) : 0) |
                               (d->has_add ? FC_BIT(FC_ADD) : 0),
                      .serial = macs(d) < FC_SERIAL_MACS,
                      .packed_bytes = fc_conv_own_packed_bytes(p) + (p->direct ? fc_conv_own_packed_bytes(p->direct) : 0),
                      .limit = d->limit};
  *out = p;
  return FC_OK;
}

int fc_plan_conv(const fc_conv_desc *d, fc_plan **plan) {
  if (!plan) return FC_ERROR_ARGUMENT;
  fc_conv_plan *p = 0;
  const int status = make_plan(d, &p, 0);
  *plan = p ? &p->head : 0;
  return status;
}

int fc_conv_explain(const fc_conv_desc *d, char *text, int64_t size) {
  fc_conv_plan *p = 0;
  sentences why = {text, (size_t)size};
  if (!text || size < 1) return FC_ERROR_ARGUMENT;
  *text = 0;
  const int status = make_plan(d, &p, &why);
  free_plan(p);
  return status;
}
