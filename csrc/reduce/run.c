/* One call of a reduction. Blocks of what a unit reduces go through a kernel one after the other; what they give is merged in
 * their order, and what slices give in theirs. */
#include "core/threads.h"
#include "reduce/plan.h"

typedef struct reduce_job {
  const reduce_plan *plan;
  char *arrays[ARRAYS];
  double *pairs; /* of each unit and slice: lanes numbers, twice */
  char *workspace; /* of the threads */
  int64_t scratch;
} reduce_job;

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
      /* The latter where either is infinite, whose difference may be none. */
      a1[l] = isfinite(apart) ? a1[l] + apart * share : a1[l] * (1 - share) + b1[l] * share;
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
static void reduce_block(const reduce_plan *p, fc_reduce_block *t, double weight, double from, double *first, double *second,
                         double *unused, int64_t lanes) {
  const int kind = p->d.kind;
  if (kind == FC_MOMENTS_OVER || kind == FC_NORMALIZE) {
    p->kn->reduce(t, p->d.root_mean_square ? FC_FOLD_SQUARES : FC_FOLD_MOMENTS, first, second);
  } else if (extreme(&p->d)) {
    t->sign = kind == FC_MAX_OVER ? 1 : -1;
    p->kn->reduce(t, locates(&p->d) ? FC_FOLD_PLACE : FC_FOLD_MOST, first, second);
    for (int64_t l = 0; l < lanes; l++) second[l] = from + (locates(&p->d) ? second[l] * weight : 0);
  } else if (kind == FC_SOFTMAX || kind == FC_LOG_SOFTMAX) {
    t->sign = 1;
    p->kn->reduce(t, FC_FOLD_MOST, first, unused);
    t->first = first;
    t->kept = p->keeps;
    p->kn->reduce(t, FC_FOLD_EXP, second, unused);
    for (int64_t l = 0; l < lanes; l++)
      if (first[l] == -HUGE_VAL) second[l] = 0; /* of exp(-infinity), were there a larger one */
  } else {
    const int both = kind == FC_NORMALIZE_BACKWARD || kind == FC_NORMALIZE_SUMS;
    p->kn->reduce(t, both ? FC_FOLD_GRADIENTS : kind == FC_SOFTMAX_BACKWARD ? FC_FOLD_DOT : FC_FOLD_SUM, first, second);
  }
}

/* Numbers of neighbouring results, to where they are in an array. */
static void put(const reduce_job *j, int array, int64_t place, const double *numbers, int64_t lanes) {
  const int64_t step = j->plan->lane.stride[array];
  if (array == PLACES && locates(&j->plan->d)) {
    int64_t *to = (int64_t *)j->arrays[array] + place;
    for (int64_t l = 0; l < lanes; l++) to[l * step] = (int64_t)numbers[l];
  } else if (j->plan->es == 4) {
    float *to = (float *)j->arrays[array] + place;
    for (int64_t l = 0; l < lanes; l++) to[l * step] = (float)numbers[l];
  } else {
    double *to = (double *)j->arrays[array] + place;
    for (int64_t l = 0; l < lanes; l++) to[l * step] = numbers[l];
  }
}

/* Writes the results of a unit, whose elements are at at[] in the arrays, and makes of their numbers what elements need. */
static void finish(const reduce_job *j, const int64_t *at, double *first, double *second, double *third, int64_t lanes) {
  const reduce_plan *p = j->plan;
  const double n = (double)p->total, p0 = p->d.p0, divisor = fmax(n - p0, 0);
  const int kind = p->d.kind;
  const double *const results[ARRAYS - KEPT] = {first, second, third};
  for (int64_t l = 0; l < lanes; l++) switch (kind) {
    case FC_SUM_OVER: first[l] /= p0; break;
    case FC_MOMENTS_OVER: second[l] /= divisor; break;
    case FC_MIN_OVER: first[l] = -first[l]; break;
    case FC_NORMALIZE:
      third[l] = second[l] / n;
      second[l] = 1 / sqrt(third[l] + p0);
      break;
    case FC_SOFTMAX: second[l] = 1 / second[l]; break;
    case FC_LOG_SOFTMAX: second[l] = log(second[l]); break;
    }
  for (int a = KEPT; a < ARRAYS; a++)
    if (p->d.present >> a & 1) put(j, a, at[a], results[a - KEPT], lanes);
  for (int64_t l = 0; l < lanes && kind == FC_NORMALIZE_BACKWARD; l++) {
    first[l] = p->d.root_mean_square ? 0 : first[l] / n;
    second[l] /= n;
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
static void copy_rows(int64_t es, void *dense, char *apart, int64_t rows, int64_t row, int64_t count, int64_t step, int back) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < count; i++) {
      char *one = (char *)dense + (r * count + i) * es, *other = apart + (r * row + i * step) * es;
      if (es == 4)
        memcpy(back ? other : one, back ? one : other, 4);
      else
        memcpy(back ? other : one, back ? one : other, 8);
    }
}

/* Those of all results of a block. */
static void copy(int64_t es, const fc_reduce_block *t, void *dense, char *apart, int64_t next, int64_t row, int64_t step,
                 int back) {
  for (int64_t k = 0; k < t->results; k++)
    copy_rows(es, (char *)dense + k * t->rows * t->count * es, apart + k * next * es, t->rows, row, t->count, step, back);
}

static const float constants32[] = {0, 1};
static const double constants64[] = {0, 1};

/* rows of count elements that begin at at[], as kernels take them: whole rows of the axes that vectors do not run along. */
static fc_reduce_block block_of(const reduce_job *j, const int64_t *at, int64_t results, int64_t rows, int64_t count,
                                char *copies) {
  const reduce_plan *p = j->plan;
  const axis *inner = p->across ? &p->lane : &p->leaf,
             *outer = p->across || !p->nreduced ? &p->leaf : &p->reduced[p->nreduced - 1];
  fc_reduce_block t = {.across = p->across, .results = results, .rows = rows, .count = count};
  for (int a = 0; a <= RESULT; a++) {
    if (!(p->d.present >> a & 1)) {
      const int one = a == FC_RSTD || a == FC_WEIGHT || (a == FC_SHIFT && p->d.kind == FC_NORMALIZE_BACKWARD);
      if (a < RESULT) t.in[a] = p->es == 4 ? (const void *)&constants32[one] : &constants64[one];
      continue;
    }
    const int copied = p->copied >> a & 1;
    char *start = j->arrays[a] + at[a] * p->es;
    int64_t row = rows > 1 ? outer->stride[a] : 0, next = results > 1 ? p->lane.stride[a] : 0;
    if (copied) {
      if (a < RESULT) copy(p->es, &t, copies, start, next, row, inner->stride[a], 0);
      row = count;
      next = rows * count;
      start = copies;
      copies += BLOCK_BYTES;
    }
    if (a == RESULT) {
      t.out = start;
      t.out_row = row;
      t.out_next = next;
    } else {
      t.in[a] = start;
      t.step[a] = copied ? 1 : inner->stride[a];
      t.row[a] = row;
      t.next[a] = next;
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
    fc_reduce_block t = block_of(j, at, p->across ? 1 : lanes, rows, count, copies);
    n = p->across ? n : n * rows;
    if (!each && adds_up(&p->d)) {
      t.more = i > from;
      reduce_block(p, &t, 0, 0, first, second, 0, lanes);
      continue;
    }
    if (!each) {
      reduce_block(p, &t, (double)p->leaf.weight, (double)base, block, block + p->pitch, block + 2 * p->pitch, lanes);
      merge(p, (double)(i - from), first, second, (double)n, block, block + p->pitch, lanes);
      continue;
    }
    t.first = first;
    t.second = second;
    t.kept = p->keeps;
    p->kn->reduce_each(&t, p->each);
    if (p->copied >> RESULT & 1) {
      const int64_t row = rows == 1 ? 0 : (p->across ? p->leaf : p->reduced[p->nreduced - 1]).stride[RESULT];
      copy(p->es, &t, t.out, j->arrays[RESULT] + at[RESULT] * p->es, p->lane.stride[RESULT], row,
           (p->across ? p->lane : p->leaf).stride[RESULT], 1);
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
      finish(j, at, first, second, second + p->pitch, lanes);
    }
    if (p->each >= 0) walk(j, at, lanes, 0, p->total, 1, first, second, scratch);
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
  finish(j, at, sum, sum + p->pitch, (double *)j->workspace, lanes);
}

static void each_slice(void *ctx, int64_t index, int worker) { slice_piece(ctx, index, worker, 1); }

int fc_reduce_run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads) {
  const reduce_plan *p = (const reduce_plan *)plan;
  reduce_job j = {.plan = p, .pairs = workspace, .scratch = scratch_bytes(p)};
  j.workspace = (char *)workspace + pairs_bytes(p);
  for (int i = 0; i < p->arrays; i++) j.arrays[p->array[i]] = arrays[p->array[i]];
  if (p->slices == 1) return fc_parallel_for(nthreads, p->pieces, whole_piece, &j);
  if (p->d.kind != FC_AFFINE) {
    fc_parallel_for(nthreads, p->pieces, reduce_slice, &j);
    for (int64_t unit = 0; unit < p->units; unit++) merge_slices(&j, unit);
  }
  if (p->each >= 0) fc_parallel_for(nthreads, p->pieces, each_slice, &j);
  return FC_OK;
}

int64_t fc_reduce_workspace(const fc_plan *plan, int nthreads, int packed) {
  (void)packed;
  const reduce_plan *p = (const reduce_plan *)plan;
  return pairs_bytes(p) + nthreads * scratch_bytes(p) + FC_ALIGN;
}
