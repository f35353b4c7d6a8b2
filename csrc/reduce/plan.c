/* Reductions: how axes are walked, and how a call is cut into pieces: by the sizes and strides alone, so bits do not depend on
 * the threads. */
#include "reduce/plan.h"

#include "core/check.h"

/* Below this many elements a second thread costs more than it brings. */
#ifndef FC_SERIAL_REDUCE
#define FC_SERIAL_REDUCE (64 * 1024)
#endif

enum {
  SHORT = 24, /* elements that are reduced side by side with those of other results, though these are not near */
  MANY_UNITS = 16, /* enough for threads to share */
  PIECE = 32 * 1024, /* elements that are worth a piece of their own */
};

/* Arrays by bits: those that must be there, of which one must be, that may be; what is made of each element, or -1. */
static const struct {
  int needed, any, allowed, each;
} kinds[] = {
    [FC_SUM_OVER] = {0x101, 0x100, 0x101, -1},
    [FC_MOMENTS_OVER] = {0x001, 0x300, 0x301, -1},
    [FC_MAX_OVER] = {0x001, 0x300, 0x301, -1},
    [FC_MIN_OVER] = {0x001, 0x300, 0x301, -1},
    [FC_AFFINE] = {0x041, 0x040, 0x07d, FC_EACH_AFFINE},
    [FC_NORMALIZE] = {0x001, 0x740, 0x771, FC_EACH_NORMAL},
    [FC_NORMALIZE_BACKWARD] = {0x043, 0x040, 0x37f, FC_EACH_NORMAL_GRADIENT},
    [FC_NORMALIZE_SUMS] = {0x003, 0x300, 0x31f, -1},
    [FC_SOFTMAX] = {0x041, 0x040, 0x041, FC_EACH_SOFTMAX},
    [FC_LOG_SOFTMAX] = {0x001, 0x340, 0x341, FC_EACH_LOG_SOFTMAX},
    [FC_SOFTMAX_BACKWARD] = {0x043, 0x040, 0x043, FC_EACH_SOFTMAX_GRADIENT},
    [FC_LOG_SOFTMAX_BACKWARD] = {0x043, 0x040, 0x043, FC_EACH_LOG_SOFTMAX_GRADIENT},
};

/* Strides in a form that can be computed with, if it is a description. */
static int settle(fc_reduce_desc *d) {
  if (!fc_between(d->kind, FC_SUM_OVER, FC_LOG_SOFTMAX_BACKWARD) || !fc_between(d->rank, 0, AXES) ||
      !fc_elements(d->size, d->rank) || !fc_between(d->reduced, 0, (1 << d->rank) - 1))
    return 0;
  if ((d->present & kinds[d->kind].needed) != kinds[d->kind].needed || !(d->present & kinds[d->kind].any) ||
      d->present & ~kinds[d->kind].allowed)
    return 0;
  for (int a = 0; a < ARRAYS; a++) {
    if (!(d->present >> a & 1)) continue;
    int64_t sizes[AXES];
    for (int i = 0; i < d->rank; i++) {
      sizes[i] = a > RESULT && d->reduced >> i & 1 ? 1 : d->size[i];
      if (sizes[i] < d->size[i] && d->stride[a][i] != 0) return 0;
    }
    if (!fc_settle(d->stride[a], sizes, d->rank) || (a >= RESULT && !fc_apart(d->stride[a], sizes, d->rank))) return 0;
  }
  return 1;
}

static int64_t distance(int64_t stride) { return stride < 0 ? -stride : stride; }

/* Adds an axis behind those that reach further in the first array. */
static void insert(axis *axes, int *n, const axis *a) {
  int i = (*n)++;
  for (; i > 0 && distance(axes[i - 1].stride[0]) < distance(a->stride[0]); i--) axes[i] = axes[i - 1];
  axes[i] = *a;
}

/* Makes one axis of two neighbours wherever every array has the elements of both at one distance. */
static void merge_axes(const reduce_plan *p, axis *axes, int *n) {
  int last = 0;
  for (int i = 1; i < *n; i++) {
    int one = axes[last].weight == axes[i].weight * axes[i].size;
    for (int j = 0; j < p->arrays; j++) one &= axes[last].stride[p->array[j]] == axes[i].stride[p->array[j]] * axes[i].size;
    if (one) {
      const int64_t size = axes[last].size * axes[i].size;
      axes[last] = axes[i];
      axes[last].size = size;
    } else {
      axes[++last] = axes[i];
    }
  }
  if (*n) *n = last + 1;
}

static void take_axes(reduce_plan *p) {
  const fc_reduce_desc *d = &p->d;
  int64_t weight = 1;
  for (int i = d->rank - 1; i >= 0; i--) {
    const int reduced = d->reduced >> i & 1;
    axis a = {.size = d->size[i], .weight = reduced && locates(d) ? weight : 0};
    if (reduced) weight *= d->size[i];
    if (a.size == 1) continue;
    for (int j = 0; j < p->arrays; j++) a.stride[p->array[j]] = d->stride[p->array[j]][i];
    insert(reduced ? p->reduced : p->kept, reduced ? &p->nreduced : &p->nkept, &a);
  }
  merge_axes(p, p->kept, &p->nkept);
  merge_axes(p, p->reduced, &p->nreduced);
  p->lane = p->leaf = (axis){.size = 1};
  if (p->nreduced) p->leaf = p->reduced[--p->nreduced];
  const int inside = p->nkept && distance(p->kept[p->nkept - 1].stride[0]) < distance(p->leaf.stride[0]);
  p->across = p->nkept && (inside || (p->leaf.size <= SHORT && p->kept[p->nkept - 1].size >= SHORT) || p->leaf.size == 1);
  if (p->across || (p->nkept && p->nreduced <= !locates(d))) p->lane = p->kept[--p->nkept];
}

static void cut(reduce_plan *p) {
  p->total = p->leaf.size;
  for (int i = 0; i < p->nreduced; i++) p->total *= p->reduced[i].size;
  /* With all that they reduce, results that are not side by side in vectors fit a block; those of a softmax too, if they can, as
   * merging two of its blocks takes exponentials. */
  const int64_t fit = BLOCK_BYTES / p->es / p->total;
  const int softmax = p->d.kind == FC_SOFTMAX || p->d.kind == FC_LOG_SOFTMAX;
  const int64_t most = !p->across ? fc_max(1, fc_min(FC_REDUCE_LANES, fit / 2))
                       : softmax  ? fc_max(64, fc_min(FC_REDUCE_LANES, fit / 16 * 16))
                                  : FC_REDUCE_LANES;
  p->chunks = fc_div_up(p->lane.size, most);
  p->lanes = p->across ? fc_min(p->lane.size, fc_round_up(fc_div_up(p->lane.size, p->chunks), 16)) : fc_min(p->lane.size, most);
  p->chunks = fc_div_up(p->lane.size, p->lanes);
  p->units = p->chunks;
  for (int i = 0; i < p->nkept; i++) p->units *= p->kept[i].size;
  p->pitch = fc_round_up(p->lanes, 16);
  p->block = fc_min(p->leaf.size, BLOCK_BYTES / p->es / p->lanes);
  p->rows = p->across || locates(&p->d) || !p->nreduced ? 1 : fc_max(1, BLOCK_BYTES / p->es / p->leaf.size);
  const int whole = p->block == p->leaf.size && p->nreduced <= 1 && p->rows * p->leaf.size >= p->total;
  p->keeps = p->d.kind == FC_SOFTMAX && !p->across && whole;
  const int64_t work = p->total * p->lanes;
  p->slices = p->units >= MANY_UNITS ? 1 : fc_min(fc_min(fc_div_up(2 * MANY_UNITS, p->units), work / PIECE + 1), p->total);
  p->slice = fc_div_up(p->total, p->slices);
  p->slices = fc_div_up(p->total, p->slice);
  p->units_per_piece = p->slices > 1 ? 1 : PIECE / work + 1;
  p->pieces = p->slices > 1 ? p->units * p->slices : fc_div_up(p->units, p->units_per_piece);
  for (int j = 0; j < p->arrays; j++) {
    const int64_t step = (p->across ? p->lane : p->leaf).stride[p->array[j]];
    if (p->array[j] <= RESULT && (p->array[j] == RESULT ? step != 1 : !fc_between(step, 0, 1))) p->copied |= 1 << p->array[j];
  }
  p->keeps &= !(p->copied >> RESULT & 1);
}

static void destroy(fc_plan *plan) { free(plan); }

static const fc_operator reduction = {.destroy = destroy, .run = fc_reduce_run, .workspace = fc_reduce_workspace};

int fc_plan_reduce(const fc_reduce_desc *d, fc_plan **plan) {
  if (!plan) return FC_ERROR_ARGUMENT;
  *plan = 0;
  if (!d) return FC_ERROR_ARGUMENT;
  const fc_kernels *kn;
  const int status = fc_find_kernels(&kn, d->isa, &d->types);
  if (status) return status;
  reduce_plan *p = calloc(1, sizeof *p);
  if (!p) return FC_ERROR_MEMORY;
  p->d = *d;
  if (!settle(&p->d)) {
    free(p);
    return FC_ERROR_ARGUMENT;
  }
  p->kn = kn;
  p->each = d->present >> RESULT & 1 ? kinds[d->kind].each : -1;
  p->es = fc_bytes(d->types.x);
  for (int a = 0; a < ARRAYS; a++)
    if (d->present >> a & 1) p->array[p->arrays++] = a;
  take_axes(p);
  cut(p);
  p->head = (fc_plan){.does = &reduction,
                      .algorithm = "blocks",
                      .needs = (unsigned)d->present,
                      .serial = fc_elements(d->size, d->rank) < FC_SERIAL_REDUCE};
  *plan = &p->head;
  return FC_OK;
}
