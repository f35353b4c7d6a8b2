/* Copies: of views, turned ones, between types, and of what padding repeats, with its gradient. Where each axis' elements come
 * from, which axes are one, and who copies which block. */
#include "core/check.h"
#include "core/plan.h"
#include "core/threads.h"

/* Elements below which a call runs on its caller alone, and those of a piece: what two threads share has to be worth waking one.
 */
#ifndef FC_SERIAL_COPY
#define FC_SERIAL_COPY (64 * 1024)
#endif
#define FC_PIECE_COPY (32 * 1024)

/* Bytes of a result that is written past the caches. */
#ifndef FC_STREAM_COPY
#define FC_STREAM_COPY (16 << 20)
#endif

/* Of a block that is turned: rows at most, and columns of which there are a multiple. */
#define FC_TURNED_ROWS 512
#define FC_TURNED_COLUMNS 64

enum { RANK = 8, SUMS = 256 };

/* An axis of the result, its strides in elements. Position i is at i from in x; or, with a table, it is the sum of what is at
 * at[first[i]] to at[first[i + 1] - 1]: the value of the padding where that is nothing. */
typedef struct axis {
  int64_t size, from, out;
  int64_t *first, *at;
  int number;                 /* in the description: sums are added in its order */
} axis;

/* Positions of an axis that lie in steps in x too, from that of each of count places on. */
typedef struct segment {
  int64_t begin, length, count;
  const int64_t *at;
} segment;

typedef struct copy_plan {
  fc_plan head;
  void (*copy)(const fc_copy *t), (*fill)(const fc_copy *t);
  const fc_kernels *kn, *wide; /* of x; of sums, to the result's type */
  int rank, stream;
  axis axes[RANK];             /* rows are the one before the last, columns the last */
  int64_t x0, out0;            /* where position 0 of all axes is */
  int64_t x_es, out_es, value;
  segment whole[2], *segments[2]; /* of rows and of columns */
  int64_t nsegments[2];
  int64_t block[2], blocks[2]; /* rows and columns of a block, and how many such */
  int64_t units, piece;        /* blocks in all, and of a piece */
} copy_plan;

typedef struct copy_job {
  const copy_plan *plan;
  const char *x;
  char *out;
} copy_job;

/* ---- where elements come from ---- */

/* The position in x of one of the padded array, which begins `before` positions earlier; -1 if it is the padding's value. */
static int64_t source(int mode, int64_t p, int64_t size) {
  switch (mode) {
  case FC_PAD_REFLECT: return p < 0 ? -p : p < size ? p : 2 * (size - 1) - p;
  case FC_PAD_REPLICATE: return p < 0 ? 0 : p < size ? p : size - 1;
  case FC_PAD_CIRCULAR: return p < 0 ? p + size : p < size ? p : p - size;
  default: return p >= 0 && p < size ? p : -1;
  }
}

/* The table of an axis: of the padded array, or, backward, of x, to which the padded one's positions are added. */
static int tabulate(axis *a, int mode, int backward, int64_t size, int64_t before, int64_t padded) {
  const int64_t most = backward ? padded : a->size;
  a->first = calloc((size_t)a->size + 2, sizeof *a->first);
  a->at = malloc((size_t)fc_max(most, 1) * sizeof *a->at);
  if (!a->first || !a->at) return FC_ERROR_MEMORY;
  int64_t *next = a->first + 1; /* where the next place of each position goes: counted, then added up */
  for (int64_t p = 0; p < padded; p++) {
    const int64_t from = source(mode, p - before, size);
    if (from >= 0) next[1 + (backward ? from : p)]++;
  }
  for (int64_t i = 0; i < a->size; i++) next[i + 1] += next[i];
  for (int64_t p = 0; p < padded; p++) {
    const int64_t from = source(mode, p - before, size);
    if (from >= 0) a->at[next[backward ? from : p]++] = (backward ? p : from) * a->from;
  }
  return FC_OK;
}

/* The segments of an axis whose every position stands for `unit` elements, one after the other in both arrays. */
static int cut(const axis *a, int64_t unit, int64_t step, segment **segments, int64_t *count) {
  segment *s = *segments = malloc((size_t)a->size * sizeof *s);
  if (!s) return FC_ERROR_MEMORY;
  for (int64_t i = 0; i < a->size; i++) {
    const segment here = {i * unit, unit, a->first[i + 1] - a->first[i], a->at + a->first[i]};
    segment *last = s + *count - 1;
    if (*count && last->count == here.count &&
        (here.count == 0 || (here.count == 1 && last->at[0] + last->length * step == here.at[0])))
      last->length += unit;
    else
      s[(*count)++] = here;
  }
  return FC_OK;
}

/* ---- which axes are one ---- */

static int64_t distance(int64_t stride) { return stride < 0 ? -stride : stride; }

/* From its end on: for an axis without a table, both arrays can be walked so. */
static void turn(copy_plan *p, axis *a) {
  p->x0 += (a->size - 1) * a->from;
  p->out0 += (a->size - 1) * a->out;
  a->from = -a->from;
  a->out = -a->out;
}

static int adjoin(const axis *outer, const axis *inner) {
  return outer->out == inner->out * inner->size && outer->from == inner->from * inner->size;
}

/* Axes in the order of the result's strides, the longest first; those that adjoin as one. */
static void arrange(copy_plan *p) {
  for (int i = 1; i < p->rank; i++)
    for (int k = i; k > 0 && distance(p->axes[k - 1].out) < distance(p->axes[k].out); k--) {
      const axis a = p->axes[k];
      p->axes[k] = p->axes[k - 1];
      p->axes[k - 1] = a;
    }
  int n = 0;
  for (int i = 0; i < p->rank; i++) {
    axis a = p->axes[i];
    if (!a.first && a.out < 0) turn(p, &a);
    if (n && !a.first && !p->axes[n - 1].first && adjoin(&p->axes[n - 1], &a)) {
      a.size *= p->axes[n - 1].size;
      n--;
    }
    p->axes[n++] = a;
  }
  memset(p->axes + n, 0, (size_t)(RANK - n) * sizeof *p->axes); /* a table has one owner */
  while (n < 2) {                                                 /* rows and columns there are */
    memmove(p->axes + 1, p->axes, (size_t)n * sizeof *p->axes);
    p->axes[0] = (axis){.size = 1};
    n++;
  }
  p->rank = n;
}

/* Where columns are no neighbours in x, rows are the axis along which there are, so that squares can be turned. */
static void choose_rows(copy_plan *p) {
  const int last = p->rank - 1;
  if (p->axes[last].first || distance(p->axes[last].from) <= 1) return;
  int rows = -1;
  for (int i = 0; i < last; i++)
    if (!p->axes[i].first && p->axes[i].size > 1 && distance(p->axes[i].from) == 1) rows = i;
  if (rows < 0) return;
  axis a = p->axes[rows];
  if (a.from < 0) turn(p, &a);
  memmove(p->axes + rows, p->axes + rows + 1, (size_t)(last - 1 - rows) * sizeof a);
  p->axes[last - 1] = a;
}

/* Rows and columns in segments. An axis that is padded and the columns may be one. */
static int segment_axes(copy_plan *p) {
  axis *columns = &p->axes[p->rank - 1], *padded = columns - 1;
  int status = FC_OK;
  if (padded->first && !columns->first && adjoin(padded, columns)) {
    status = cut(padded, columns->size, columns->from, &p->segments[1], &p->nsegments[1]);
    padded->size *= columns->size;
    padded->from = columns->from;
    padded->out = columns->out;
    if (--p->rank < 2) {
      p->axes[1] = p->axes[0];
      p->axes[0] = (axis){.size = 1};
      p->rank = 2;
    }
  } else if (columns->first) {
    status = cut(columns, 1, columns->from, &p->segments[1], &p->nsegments[1]);
  }
  const axis *rows = &p->axes[p->rank - 2];
  if (!status && rows->first) status = cut(rows, 1, rows->from, &p->segments[0], &p->nsegments[0]);
  static const int64_t begin = 0;
  for (int i = 0; i < 2; i++)
    if (!p->nsegments[i]) p->whole[i] = (segment){0, p->axes[p->rank - 2 + i].size, 1, &begin};
  return status;
}

static void cut_pieces(copy_plan *p) {
  const axis *columns = &p->axes[p->rank - 1], *rows = columns - 1;
  if (distance(columns->from) > 1 && rows->from == 1) {
    p->block[0] = fc_min(rows->size, FC_TURNED_ROWS);
    p->block[1] = fc_max(1, FC_PIECE_COPY / p->block[0] / FC_TURNED_COLUMNS) * FC_TURNED_COLUMNS;
  } else {
    p->block[1] = FC_PIECE_COPY;
    p->block[0] = fc_max(1, FC_PIECE_COPY / columns->size);
  }
  p->units = 1;
  for (int i = 0; i < 2; i++) {
    const int64_t size = p->axes[p->rank - 2 + i].size;
    p->block[i] = fc_min(p->block[i], size);
    p->units *= p->blocks[i] = fc_div_up(size, p->block[i]);
  }
  for (int i = 0; i < p->rank - 2; i++) p->units *= p->axes[i].size;
  p->piece = fc_max(1, FC_PIECE_COPY / (p->block[0] * p->block[1]));
}

/* ---- one block ---- */

/* What a block reads of x, one element of it: `first`, and for each of these axes one of several places. */
typedef struct places {
  int64_t first;
  int empty, several;
  struct {
    int64_t count;
    const int64_t *at;
    int number;
  } axes[RANK];
} places;

/* Of one axis more. */
static void add_places(places *s, int64_t count, const int64_t *at, int number) {
  if (count == 0) s->empty = 1;
  if (count == 1) s->first += at[0];
  if (count <= 1) return;
  int i = s->several++;
  for (; i > 0 && s->axes[i - 1].number > number; i--) s->axes[i] = s->axes[i - 1];
  s->axes[i].count = count;
  s->axes[i].at = at;
  s->axes[i].number = number;
}

/* sums[i] = the sum of all that elements `step` apart receive, in the order of the description's axes. */
static void add_up(const copy_job *j, const places *s, int64_t first, int64_t step, int64_t count, double *sums) {
  const copy_plan *p = j->plan;
  int64_t index[RANK] = {0};
  memset(sums, 0, (size_t)count * sizeof *sums);
  for (int i = 0; i >= 0;) {
    int64_t from = first;
    for (int k = 0; k < s->several; k++) from += s->axes[k].at[index[k]];
    p->kn->copy_add(sums, j->x + from * p->x_es, step, count);
    for (i = s->several - 1; i >= 0 && ++index[i] == s->axes[i].count; i--) index[i] = 0;
  }
}

/* Rows and columns that lie in steps in x and in out. */
static void block(const copy_job *j, const places *s, int64_t out, int64_t rows, int64_t count) {
  const copy_plan *p = j->plan;
  const axis *columns = &p->axes[p->rank - 1], *lines = columns - 1;
  fc_copy t = {j->x + s->first * p->x_es,
               j->out + out * p->out_es,
               rows,
               count,
               lines->from,
               columns->from,
               lines->out,
               columns->out,
               p->stream};
  if (s->empty) {
    t.from = &p->value;
    t.from_row = t.from_step = 0;
    p->fill(&t);
  } else if (!s->several) {
    p->copy(&t);
  } else {
    double sums[SUMS];
    for (int64_t r = 0; r < rows; r++)
      for (int64_t i = 0; i < count; i += SUMS) {
        const int64_t n = fc_min(SUMS, count - i);
        add_up(j, s, s->first + r * lines->from + i * columns->from, columns->from, n, sums);
        const fc_copy back = {sums, j->out + (out + r * lines->out + i * columns->out) * p->out_es, 1, n, 0, 1, 0, columns->out,
                              0};
        (p->x_es == 4 ? p->wide->convert : p->wide->copy)(&back);
      }
  }
}

/* Of count segments the one that position i is in. */
static int64_t find(const segment *s, int64_t count, int64_t i) {
  int64_t low = 0;
  for (int64_t high = count; high - low > 1;) {
    const int64_t middle = (low + high) / 2;
    if (s[middle].begin <= i)
      low = middle;
    else
      high = middle;
  }
  return low;
}

/* The block of rows and columns of these numbers, where the other axes are at `outer`, in out at `out`. */
static void unit(const copy_job *j, const places *outer, int64_t out, const int64_t number[2]) {
  const copy_plan *p = j->plan;
  int64_t begin[2], end[2];
  for (int i = 0; i < 2; i++) {
    begin[i] = number[i] * p->block[i];
    end[i] = fc_min(begin[i] + p->block[i], p->axes[p->rank - 2 + i].size);
  }
  const axis *columns = &p->axes[p->rank - 1], *rows = columns - 1;
  const segment *row_segments = p->nsegments[0] ? p->segments[0] : &p->whole[0];
  const segment *column_segments = p->nsegments[1] ? p->segments[1] : &p->whole[1];
  const int64_t nrows = fc_max(1, p->nsegments[0]), ncolumns = fc_max(1, p->nsegments[1]);
  for (int64_t k = find(row_segments, nrows, begin[0]); k < nrows && row_segments[k].begin < end[0]; k++) {
    const segment *r = &row_segments[k];
    const int64_t r0 = fc_max(r->begin, begin[0]), r1 = fc_min(r->begin + r->length, end[0]);
    places of_row = *outer;
    add_places(&of_row, r->count, r->at, rows->number);
    of_row.first += (r0 - r->begin) * rows->from;
    for (int64_t i = find(column_segments, ncolumns, begin[1]); i < ncolumns && column_segments[i].begin < end[1]; i++) {
      const segment *c = &column_segments[i];
      const int64_t c0 = fc_max(c->begin, begin[1]), c1 = fc_min(c->begin + c->length, end[1]);
      places here = of_row;
      add_places(&here, c->count, c->at, columns->number);
      here.first += (c0 - c->begin) * columns->from;
      block(j, &here, out + r0 * rows->out + c0 * columns->out, r1 - r0, c1 - c0);
    }
  }
}

static void piece(void *ctx, int64_t number, int worker) {
  (void)worker;
  const copy_job *j = ctx;
  const copy_plan *p = j->plan;
  const int outer = p->rank - 2;
  const int64_t begin = number * p->piece, end = fc_min(begin + p->piece, p->units);
  int64_t index[RANK], rest = begin, blocks[2];
  for (int i = 1; i >= 0; rest /= p->blocks[i], i--) blocks[i] = rest % p->blocks[i];
  for (int i = outer - 1; i >= 0; rest /= p->axes[i].size, i--) index[i] = rest % p->axes[i].size;
  for (int64_t u = begin; u < end; u++) {
    places s = {.first = p->x0};
    int64_t out = p->out0;
    for (int i = 0; i < outer; i++) {
      const axis *a = &p->axes[i];
      const int64_t at = index[i] * a->from;
      if (a->first)
        add_places(&s, a->first[index[i] + 1] - a->first[index[i]], a->at + a->first[index[i]], a->number);
      else
        s.first += at;
      out += index[i] * a->out;
    }
    unit(j, &s, out, blocks);
    int i = 1;
    for (; i >= 0 && ++blocks[i] == p->blocks[i]; i--) blocks[i] = 0;
    if (i < 0)
      for (i = outer - 1; i >= 0 && ++index[i] == p->axes[i].size; i--) index[i] = 0;
  }
}

/* ---- plans ---- */

static int run(const fc_plan *plan, void *const *arrays, void *workspace, int nthreads) {
  (void)workspace;
  const copy_plan *p = (const copy_plan *)plan;
  copy_job j = {p, arrays[FC_X], arrays[FC_OUT]};
  return fc_parallel_for(nthreads, fc_div_up(p->units, p->piece), piece, &j);
}

static void destroy(fc_plan *plan) {
  copy_plan *p = (copy_plan *)plan;
  for (int i = 0; i < RANK; i++) {
    free(p->axes[i].first);
    free(p->axes[i].at);
  }
  for (int i = 0; i < 2; i++) free(p->segments[i]);
  free(p);
}

static const fc_operator copy = {.destroy = destroy, .run = run};

/* Sizes and strides of x and of out, and whether there is such padding. */
static int check(fc_copy_desc *d, int64_t padded[RANK]) {
  if (!fc_kernels_of(d->isa, d->dtype) || !fc_kernels_of(d->isa, d->out_dtype) || !fc_between(d->rank, 0, RANK) ||
      !fc_between(d->mode, FC_PAD_CONSTANT, FC_PAD_CIRCULAR) || !fc_between(d->direction, FC_FWD, FC_BWD_INPUT) ||
      (d->direction == FC_BWD_INPUT && d->dtype != d->out_dtype) || !fc_elements(d->size, d->rank))
    return 0;
  for (int i = 0; i < d->rank; i++) {
    const int64_t size = d->size[i], most = fc_max(d->before[i], d->after[i]);
    if (!fc_between(d->before[i], -FC_MOST, FC_MOST) || !fc_between(d->after[i], -FC_MOST, FC_MOST)) return 0;
    if ((d->mode == FC_PAD_REFLECT && most >= size) || (d->mode == FC_PAD_CIRCULAR && most > size)) return 0;
    padded[i] = size + d->before[i] + d->after[i];
    /* What is cropped at one end and repeated at the other begins in x. */
    if (d->mode != FC_PAD_CONSTANT && fc_min(d->before[i], d->after[i]) < -size) return 0;
  }
  if (!fc_elements(padded, d->rank)) return 0;
  const int backward = d->direction == FC_BWD_INPUT;
  const int64_t *out_size = backward ? d->size : padded;
  return fc_settle(d->x_stride, backward ? padded : d->size, d->rank) && fc_settle(d->out_stride, out_size, d->rank) &&
         fc_apart(d->out_stride, out_size, d->rank);
}

static int describe(copy_plan *p, const fc_copy_desc *given) {
  if (!given) return FC_ERROR_ARGUMENT;
  fc_copy_desc d = *given;
  int64_t padded[RANK], elements = 1;
  if (!check(&d, padded)) return FC_ERROR_ARGUMENT;
  const int backward = d.direction == FC_BWD_INPUT;
  p->kn = fc_kernels_of(d.isa, d.dtype);
  p->wide = fc_kernels_of(d.isa, FC_F64);
  p->copy = d.dtype == d.out_dtype ? p->kn->copy : p->kn->convert;
  p->fill = fc_kernels_of(d.isa, d.out_dtype)->copy;
  p->x_es = d.dtype == FC_F32 ? 4 : 8;
  p->out_es = d.out_dtype == FC_F32 ? 4 : 8;
  memcpy(&p->value, d.value, sizeof p->value);
  for (int i = 0; i < d.rank; i++) {
    const int64_t before = backward ? -d.before[i] : d.before[i], after = backward ? -d.after[i] : d.after[i];
    axis a = {.size = backward ? d.size[i] : padded[i], .from = d.x_stride[i], .out = d.out_stride[i], .number = i};
    elements *= a.size;
    if ((backward && d.mode != FC_PAD_CONSTANT && (before || after)) || before > 0 || after > 0) {
      const int status = tabulate(&a, d.mode, backward, d.size[i], d.before[i], padded[i]);
      p->axes[p->rank++] = a; /* whatever came of it: destroy frees its tables */
      if (status) return status;
    } else {
      p->x0 -= before * a.from;
      if (a.size > 1) p->axes[p->rank++] = a;
    }
  }
  p->head.serial = elements < FC_SERIAL_COPY;
  p->stream = elements * p->out_es >= FC_STREAM_COPY;
  arrange(p);
  choose_rows(p);
  const int status = segment_axes(p);
  cut_pieces(p);
  return status;
}

int fc_plan_copy(const fc_copy_desc *d, fc_plan **plan) {
  if (!plan) return FC_ERROR_ARGUMENT;
  *plan = 0;
  copy_plan *p = calloc(1, sizeof *p);
  if (!p) return FC_ERROR_MEMORY;
  p->head = (fc_plan){.does = &copy, .algorithm = "blocks", .needs = FC_BIT(FC_X) | FC_BIT(FC_OUT)};
  const int status = describe(p, d);
  if (status) {
    destroy(&p->head);
    return status;
  }
  *plan = &p->head;
  return FC_OK;
}
