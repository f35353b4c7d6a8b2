/* Reductions: how axes are walked, and how a call is cut into pieces.
 *
 * A unit is a result, or some that are neighbours in memory, side by side in vectors; pieces are units, or slices of one where
 * there are few. Blocks of what a unit reduces go through a kernel one after the other; what they give is merged in their order,
 * and what slices give in theirs: both are cut by the sizes and strides alone, so bits do not depend on the threads. */
#include "core/check.h"
#include "core/plan.h"
#include "core/threads.h"

/* Below this many elements a second thread costs more than it brings. */
#ifndef FC_SERIAL_REDUCE
#define FC_SERIAL_REDUCE (64 * 1024)
#endif

enum {
  ARRAYS = 11,                 /* slots */
  AXES = 8,
  RESULT = 6,                  /* the array that has all axes */
  KEPT = 8,                    /* the first of those that have the axes that are kept */
  PLACES = 9,
  BLOCK_BYTES = 32 * 1024,     /* of an operand in a block */
  SHORT = 24, /* elements that are reduced side by side with those of other results, though these are not near */
  MOST_LANES = 256, /* results side by side */
  MANY_UNITS = 16, /* enough for threads to share */
  PIECE = 32 * 1024, /* elements that are worth a piece of their own */
};

typedef struct axis {
  int64_t size, weight; /* weight: what a step adds to the place of a maximum */
  int64_t stride[ARRAYS];
} axis;

typedef struct reduce_plan {
  fc_plan head;
  fc_reduce_desc d;
  const fc_kernels *kn;
  int64_t es;
  int arrays, array[ARRAYS]; /* those that are present */
  int copied; /* bits of those whose elements become neighbours first */
  int nkept, nreduced; /* outer ones, without lane and leaf */
  axis kept[AXES], reduced[AXES], lane, leaf;
  int across; /* vectors run along lane; else along leaf */
  int64_t lanes, chunks; /* of a unit; units that lane is cut into */
  int64_t pitch; /* numbers of all its lanes, and room for a vector */
  int64_t units, total; /* elements that each result reduces */
  int64_t block, rows; /* elements of leaf in a block; rows of all of them, of the axis around leaf */
  int64_t slices, slice, units_per_piece, pieces;
} reduce_plan;

typedef struct reduce_job {
  const reduce_plan *plan;
  char *arrays[ARRAYS];
  double *pairs; /* of each unit and slice: lanes numbers, twice */
  char *workspace; /* of the threads */
  int64_t scratch;
} reduce_job;

/* ------------------------------------------------------------------------------------------------- planning */

/* Arrays by bits: those that must be there, of which one must be, that may be; what is made of each element, or -1. */
static const struct {
  int needed, any, allowed, each;
} kinds[] = {
    [FC_SUM_OVER] = {0x101, 0x100, 0x101, -1},
    [FC_MOMENTS_OVER] = {0x001, 0x300, 0x301, -1},
    [FC_MAX_OVER] = {0x001, 0x300, 0x301, -1},
    [FC_MIN_OVER] = {0x001, 0x300, 0x301, -1},
    [FC_AFFINE] = {0x041, 0x040, 0x07d, FC_EACH_AFFINE},
    [FC_NORMALIZE] = {0x041, 0x040, 0x771, FC_EACH_NORMAL},
    [FC_NORMALIZE_BACKWARD] = {0x043, 0x040, 0x37f, FC_EACH_NORMAL_GRADIENT},
    [FC_NORMALIZE_SUMS] = {0x003, 0x300, 0x31f, -1},
    [FC_SOFTMAX] = {0x041, 0x040, 0x041, FC_EACH_SOFTMAX},
    [FC_LOG_SOFTMAX] = {0x041, 0x040, 0x041, FC_EACH_LOG_SOFTMAX},
    [FC_SOFTMAX_BACKWARD] = {0x043, 0x040, 0x043, FC_EACH_SOFTMAX_GRADIENT},
    [FC_LOG_SOFTMAX_BACKWARD] = {0x043, 0x040, 0x043, FC_EACH_LOG_SOFTMAX_GRADIENT},
};

static int extreme(const fc_reduce_desc *d) { return d->kind == FC_MAX_OVER || d->kind == FC_MIN_OVER; }

static int locates(const fc_reduce_desc *d) { return extreme(d) && d->present >> PLACES & 1; }

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
  if (p->across) p->lane = p->kept[--p->nkept];
}

static void cut(reduce_plan *p) {
  p->chunks = fc_div_up(p->lane.size, MOST_LANES);
  p->lanes = fc_min(p->lane.size, fc_round_up(fc_div_up(p->lane.size, p->chunks), 16));
  p->chunks = fc_div_up(p->lane.size, p->lanes);
  p->units = p->chunks;
  for (int i = 0; i < p->nkept; i++) p->units *= p->kept[i].size;
  p->total = p->leaf.size;
  for (int i = 0; i < p->nreduced; i++) p->total *= p->reduced[i].size;
  p->pitch = fc_round_up(p->lanes, 8);
  p->block = fc_min(p->leaf.size, BLOCK_BYTES / p->es / p->lanes);
  p->rows = p->across || locates(&p->d) || !p->nreduced ? 1 : fc_max(1, BLOCK_BYTES / p->es / p->leaf.size);
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
}

static int64_t pairs_bytes(const reduce_plan *p) {
  const int64_t pairs = p->slices > 1 && p->d.kind != FC_AFFINE ? p->units * p->slices : 0;
  return fc_round_up(pairs * 2 * p->pitch * (int64_t)sizeof(double), FC_ALIGN);
}

/* Of a thread: three pairs of numbers, and copies of operands. */
static int64_t scratch_bytes(const reduce_plan *p) {
  return fc_round_up(6 * p->pitch * (int64_t)sizeof(double), FC_ALIGN) + __builtin_popcount((unsigned)p->copied) * BLOCK_BYTES;
}

/* ------------------------------------------------------------------------------------------------- merging */

/* Whether what blocks give need only be added up, which kernels do. */
static int adds_up(const fc_reduce_desc *d) {
  return d->kind == FC_SUM_OVER || d->kind == FC_NORMALIZE_BACKWARD || d->kind == FC_NORMALIZE_SUMS ||
         d->kind == FC_SOFTMAX_BACKWARD || d->kind == FC_LOG_SOFTMAX_BACKWARD;
}

/* What na elements gave and what nb later ones gave, as what all of them give. */
static void merge(const reduce_plan *p, double na, double *a1, double *a2, double nb, const double *b1, const double *b2,
                  int64_t lanes) {
  const int kind = p->d.kind;
  if (na == 0) {
    memcpy(a1, b1, (size_t)lanes * sizeof *a1);
    memcpy(a2, b2, (size_t)lanes * sizeof *a2);
  } else if (adds_up(&p->d)) {
    for (int64_t l = 0; l < lanes; l++) {
      a1[l] += b1[l];
      a2[l] += b2[l];
    }
  } else if (extreme(&p->d)) {
    for (int64_t l = 0; l < lanes; l++) fc_take_extreme(&a1[l], &a2[l], b1[l], b2[l], 0);
  } else if (kind == FC_MOMENTS_OVER || kind == FC_NORMALIZE) {
    const double share = nb / (na + nb);
    for (int64_t l = 0; l < lanes; l++) {
      const double apart = b1[l] - a1[l];
      a1[l] += apart * share;
      a2[l] += b2[l] + apart * apart * (share * na);
    }
  } else {
    for (int64_t l = 0; l < lanes; l++) {
      const double most = a1[l] >= b1[l] ? a1[l] : a1[l] != a1[l] ? a1[l] : b1[l];
      if (most > -HUGE_VAL) a2[l] = a2[l] * exp(a1[l] - most) + b2[l] * exp(b1[l] - most);
      a1[l] = most;
    }
  }
}

/* The pair of a block of n elements for each result. */
static void reduce_block(const reduce_plan *p, fc_reduce_block *t, double n, double weight, double from, double *first,
                         double *second, double *unused, int64_t lanes) {
  const int kind = p->d.kind;
  if (kind == FC_MOMENTS_OVER || kind == FC_NORMALIZE) {
    if (p->d.root_mean_square) {
      memset(first, 0, (size_t)lanes * sizeof *first);
    } else {
      p->kn->reduce(t, FC_FOLD_SUM, first, unused);
      for (int64_t l = 0; l < lanes; l++) first[l] /= n;
    }
    t->first = first;
    p->kn->reduce(t, FC_FOLD_SQUARES, second, unused);
  } else if (extreme(&p->d)) {
    t->sign = kind == FC_MAX_OVER ? 1 : -1;
    p->kn->reduce(t, locates(&p->d) ? FC_FOLD_PLACE : FC_FOLD_MOST, first, second);
    for (int64_t l = 0; l < lanes; l++) second[l] = from + second[l] * weight;
  } else if (kind == FC_SOFTMAX || kind == FC_LOG_SOFTMAX) {
    t->sign = 1;
    p->kn->reduce(t, FC_FOLD_MOST, first, unused);
    t->first = first;
    p->kn->reduce(t, FC_FOLD_EXP, second, unused);
    for (int64_t l = 0; l < lanes; l++)
      if (first[l] == -HUGE_VAL) second[l] = 0; /* of exp(-infinity), were there a larger one */
  } else {
    const int both = kind == FC_NORMALIZE_BACKWARD || kind == FC_NORMALIZE_SUMS;
    p->kn->reduce(t, both ? FC_FOLD_GRADIENTS : kind == FC_SOFTMAX_BACKWARD ? FC_FOLD_DOT : FC_FOLD_SUM, first, second);
  }
}

static void put(const reduce_plan *p, char *to, int64_t i, double v) {
  if (p->es == 4)
    ((float *)to)[i] = (float)v;
  else
    ((double *)to)[i] = v;
}

/* Writes the results of a unit, whose elements are at at[] in the arrays, and makes of their numbers what elements need. */
static void finish(const reduce_job *j, const int64_t *at, double *first, double *second, int64_t lanes) {
  const reduce_plan *p = j->plan;
  const double n = (double)p->total;
  const int kind = p->d.kind;
  for (int64_t l = 0; l < lanes; l++) {
    const double a = first[l], b = second[l];
    double results[ARRAYS - KEPT] = {0};
    switch (kind) {
    case FC_SUM_OVER: results[0] = a / p->d.p0; break;
    case FC_MOMENTS_OVER:
      results[0] = a;
      results[1] = b / fmax(n - p->d.p0, 0);
      break;
    case FC_MAX_OVER:
    case FC_MIN_OVER: results[0] = kind == FC_MAX_OVER ? a : -a; break;
    case FC_NORMALIZE:
      results[0] = a;
      results[2] = b / n;
      results[1] = second[l] = 1 / sqrt(b / n + p->d.p0);
      break;
    case FC_SOFTMAX: second[l] = 1 / b; break;
    case FC_LOG_SOFTMAX: second[l] = log(b); break;
    default:
      results[0] = a;
      results[1] = b;
      if (kind == FC_NORMALIZE_BACKWARD) {
        first[l] = p->d.root_mean_square ? 0 : a / n;
        second[l] = b / n;
      }
    }
    for (int a = KEPT; a < ARRAYS; a++) {
      if (!(p->d.present >> a & 1)) continue;
      const int64_t place = at[a] + l * p->lane.stride[a];
      if (a == PLACES && locates(&p->d))
        ((int64_t *)j->arrays[a])[place] = (int64_t)b;
      else
        put(p, j->arrays[a], place, results[a - KEPT]);
    }
  }
}

/* ------------------------------------------------------------------------------------------------- walking */

/* Adds to at[] where position `index` of some axes is in the arrays; what it adds to the place of a maximum comes back. */
static int64_t step_to(const reduce_plan *p, const axis *axes, int n, int64_t index, int64_t *at) {
  int64_t weight = 0;
  for (int i = n - 1; i >= 0; i--) {
    const int64_t k = index % axes[i].size;
    index /= axes[i].size;
    weight += k * axes[i].weight;
    for (int j = 0; j < p->arrays; j++) at[p->array[j]] += k * axes[i].stride[p->array[j]];
  }
  return weight;
}

static int64_t unit_at(const reduce_plan *p, int64_t unit, int64_t *at) {
  const int64_t lane = unit % p->chunks * p->lanes;
  for (int j = 0; j < p->arrays; j++) at[p->array[j]] = lane * p->lane.stride[p->array[j]];
  step_to(p, p->kept, p->nkept, unit / p->chunks, at);
  return fc_min(p->lanes, p->lane.size - lane);
}

/* rows of count elements, one after another, from or to where they lie. */
static void copy(int64_t es, void *dense, char *apart, int64_t rows, int64_t row, int64_t count, int64_t step, int back) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < count; i++) {
      char *one = (char *)dense + (r * count + i) * es, *other = apart + (r * row + i * step) * es;
      if (es == 4)
        memcpy(back ? other : one, back ? one : other, 4);
      else
        memcpy(back ? other : one, back ? one : other, 8);
    }
}

static const float constants32[] = {0, 1};
static const double constants64[] = {0, 1};

/* rows of count elements that begin at at[], as kernels take them: whole rows of the axes that vectors do not run along. */
static fc_reduce_block block_of(const reduce_job *j, const int64_t *at, int64_t rows, int64_t count, char *copies) {
  const reduce_plan *p = j->plan;
  const axis *inner = p->across ? &p->lane : &p->leaf,
             *outer = p->across || !p->nreduced ? &p->leaf : &p->reduced[p->nreduced - 1];
  fc_reduce_block t = {.across = p->across, .rows = rows, .count = count};
  for (int a = 0; a <= RESULT; a++) {
    if (!(p->d.present >> a & 1)) {
      const int one = a == FC_RSTD || a == FC_WEIGHT || (a == FC_SHIFT && p->d.kind == FC_NORMALIZE_BACKWARD);
      if (a < RESULT) t.in[a] = p->es == 4 ? (const void *)&constants32[one] : &constants64[one];
      continue;
    }
    const int copied = p->copied >> a & 1;
    char *start = j->arrays[a] + at[a] * p->es;
    int64_t row = rows > 1 ? outer->stride[a] : 0;
    if (copied) {
      if (a < RESULT) copy(p->es, copies, start, rows, row, count, inner->stride[a], 0);
      row = count;
      start = copies;
      copies += BLOCK_BYTES;
    }
    if (a == RESULT) {
      t.out = start;
      t.out_row = row;
    } else {
      t.in[a] = start;
      t.step[a] = copied ? 1 : inner->stride[a];
      t.row[a] = row;
    }
  }
  return t;
}

/* Elements from to end of a unit: into the pair at first, second, or with what finish made of it. */
static void walk(const reduce_job *j, const int64_t *unit, int64_t lanes, int64_t from, int64_t end, int each, double *first,
                 double *second, char *scratch) {
  const reduce_plan *p = j->plan;
  double *block = (double *)scratch + 2 * p->pitch;
  char *copies = scratch + fc_round_up(6 * p->pitch * (int64_t)sizeof(double), FC_ALIGN);
  for (int64_t i = from, n; i < end; i += n) {
    int64_t at[ARRAYS];
    memcpy(at, unit, sizeof at);
    const int64_t step = i / p->leaf.size, k = i % p->leaf.size;
    const int64_t base = step_to(p, p->reduced, p->nreduced, step, at) + step_to(p, &p->leaf, 1, k, at);
    n = fc_min(fc_min(p->block, p->leaf.size - k), end - i);
    int64_t rows = p->across ? n : 1;
    if (p->rows > 1 && n == p->leaf.size) {
      const int64_t around = p->reduced[p->nreduced - 1].size;
      rows = fc_min(fc_min(p->rows, around - step % around), (end - i) / n);
    }
    const int64_t count = p->across ? lanes : n;
    fc_reduce_block t = block_of(j, at, rows, count, copies);
    n = p->across ? n : n * rows;
    if (!each && adds_up(&p->d)) {
      t.more = i > from;
      reduce_block(p, &t, 0, 0, 0, first, second, 0, lanes);
      continue;
    }
    if (!each) {
      reduce_block(p, &t, (double)n, (double)p->leaf.weight, (double)base, block, block + p->pitch, block + 2 * p->pitch, lanes);
      merge(p, (double)(i - from), first, second, (double)n, block, block + p->pitch, lanes);
      continue;
    }
    t.first = first;
    t.second = second;
    p->kn->reduce_each(&t, kinds[p->d.kind].each);
    if (p->copied >> RESULT & 1) {
      const int64_t row = rows == 1 ? 0 : (p->across ? p->leaf : p->reduced[p->nreduced - 1]).stride[RESULT];
      copy(p->es, t.out, j->arrays[RESULT] + at[RESULT] * p->es, rows, row, count, (p->across ? p->lane : p->leaf).stride[RESULT],
           1);
    }
  }
}

static double *pair_of(const reduce_job *j, int64_t unit, int64_t slice) {
  return j->pairs + (unit * j->plan->slices + slice) * 2 * j->plan->pitch;
}

/* A piece that has all of its units' elements. */
static void whole_piece(void *ctx, int64_t index, int worker) {
  const reduce_job *j = ctx;
  const reduce_plan *p = j->plan;
  char *scratch = j->workspace + worker * j->scratch;
  double *first = (double *)scratch, *second = first + p->pitch;
  const int64_t end = fc_min(p->units, (index + 1) * p->units_per_piece);
  for (int64_t unit = index * p->units_per_piece; unit < end; unit++) {
    int64_t at[ARRAYS] = {0};
    const int64_t lanes = unit_at(p, unit, at);
    if (p->d.kind != FC_AFFINE) {
      walk(j, at, lanes, 0, p->total, 0, first, second, scratch);
      finish(j, at, first, second, lanes);
    }
    if (kinds[p->d.kind].each >= 0) walk(j, at, lanes, 0, p->total, 1, first, second, scratch);
  }
}

static void slice_piece(const reduce_job *j, int64_t index, int worker, int each) {
  const reduce_plan *p = j->plan;
  const int64_t unit = index / p->slices, slice = index % p->slices, from = slice * p->slice;
  int64_t at[ARRAYS] = {0};
  const int64_t lanes = unit_at(p, unit, at);
  double *pair = p->d.kind == FC_AFFINE ? 0 : pair_of(j, unit, each ? 0 : slice);
  walk(j, at, lanes, from, fc_min(p->total, from + p->slice), each, pair, pair ? pair + p->pitch : 0,
       j->workspace + worker * j->scratch);
}

static void reduce_slice(void *ctx, int64_t index, int worker) { slice_piece(ctx, index, worker, 0); }

/* What the slices of a unit gave, as what all of its elements give. */
static void merge_slices(const reduce_job *j, int64_t unit) {
  const reduce_plan *p = j->plan;
  int64_t at[ARRAYS] = {0};
  const int64_t lanes = unit_at(p, unit, at);
  double *sum = pair_of(j, unit, 0);
  for (int64_t s = 1; s < p->slices; s++) {
    const double *other = pair_of(j, unit, s);
    const int64_t n = fc_min(p->slice, p->total - s * p->slice);
    merge(p, (double)(s * p->slice), sum, sum + p->pitch, (double)n, other, other + p->pitch, lanes);
  }
  finish(j, at, sum, sum + p->pitch, lanes);
}

static void each_slice(void *ctx, int64_t index, int worker) { slice_piece(ctx, index, worker, 1); }

static int run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads) {
  const reduce_plan *p = (const reduce_plan *)plan;
  reduce_job j = {.plan = p, .pairs = workspace, .scratch = scratch_bytes(p)};
  j.workspace = (char *)workspace + pairs_bytes(p);
  for (int i = 0; i < p->arrays; i++) j.arrays[p->array[i]] = arrays[p->array[i]];
  if (p->slices == 1) return fc_parallel_for(nthreads, p->pieces, whole_piece, &j);
  if (p->d.kind != FC_AFFINE) {
    fc_parallel_for(nthreads, p->pieces, reduce_slice, &j);
    for (int64_t unit = 0; unit < p->units; unit++) merge_slices(&j, unit);
  }
  if (kinds[p->d.kind].each >= 0) fc_parallel_for(nthreads, p->pieces, each_slice, &j);
  return FC_OK;
}

static int64_t workspace_bytes(const fc_plan *plan, int nthreads, int packed) {
  (void)packed;
  const reduce_plan *p = (const reduce_plan *)plan;
  return pairs_bytes(p) + nthreads * scratch_bytes(p) + FC_ALIGN;
}

static void destroy(fc_plan *plan) { free(plan); }

static const fc_operator reduction = {.destroy = destroy, .run = run, .workspace = workspace_bytes};

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
