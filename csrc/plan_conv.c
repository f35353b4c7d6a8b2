/* Convolution plans: which algorithm, which blocking, how much scratch.
 *
 * Forward and backward-input are one computation, dst[j] = sum over taps of wei[tap] src[j step + offset(tap)], after a
 * strided backward-input is split into its phases: the positions that have the same remainder by the stride see the
 * same taps, and among themselves form a dense convolution. A transposed convolution is backward-input. */
#include <stdio.h>

#include "product.h"
#include "threads.h"

/* Below this many multiply-adds a second thread costs more than it brings. */
#define FC_SERIAL_MACS 1000000

/* Source planes of one piece of the direct algorithm stay within this. */
#define FC_PLANE_BYTES (192 * 1024)

/* Rows of filters that are transposed at a time when weights are packed. */
#define FC_FILTER_ROWS 128

/* Columns (lanes) of a piece: multiples of every tile, small enough that both blocks stay in L2. */
#define FC_PIECE_LANES 192

/* A dimension of a phase: count outputs, at dst_base + j dst_step; each tap reads src at j src_step + off. */
typedef struct axis {
  int64_t count, src_step, dst_base, dst_step;
  int ntap;
  int32_t *tap, *off;
} axis;

typedef struct phase {
  axis ax[3];
  int64_t k, pixels;          /* reduction length: taps times source channels; outputs, the batch included */
  int64_t packed;             /* where its weights start, in elements */
} phase;

struct fc_conv_plan {
  fc_conv_desc d;
  const fc_kernels *kn;
  int64_t es;
  enum { DIRECT, GEMM_PIXELS, GEMM_CHANNELS, WEIGHT_GEMM, WEIGHT_DIRECT } algorithm;
  char name[64], reason[512];
  /* What the direction reads and writes: channels a group, sizes, strides. */
  int64_t sc, dc, src[3], dst[3], ss[5], ds[5], wk, wm;
  int nphase;
  phase *phases;
  int32_t *taps;              /* every phase's tap lists, one allocation */
  int64_t packed_elements;
  /* backward-weight: the output's size, with rows that lie one after another in dy (for x: in a 1x1 layer) merged */
  int64_t dy_rows[3], x_rows[3];
  /* direct: output rows and slices of a piece, the padded source that it copies */
  int64_t rows, slices, low[3], span[3], pitch, columns, chunks_d, chunks_h;
};

/* ------------------------------------------------------------------------------------------------ planning */

static int64_t product3(const int64_t v[3]) { return v[0] * v[1] * v[2]; }

static int floor_mod(int64_t a, int64_t b) { return (int)(((a % b) + b) % b); }

/* Forward: one phase, which has every tap. */
static void forward_axis(axis *a, const fc_conv_desc *d, int i) {
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
static void phase_axis(axis *a, const fc_conv_desc *d, int i, int64_t r) {
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
  const int64_t most = back ? product3(d->stride) : 1, taps = 2 * (d->ker[0] + d->ker[1] + d->ker[2]);
  p->phases = calloc((size_t)most, sizeof(phase));
  p->taps = malloc((size_t)(most * taps) * sizeof(int32_t));
  if (!p->phases || !p->taps) return FC_ERROR_MEMORY;
  int64_t packed = 0;
  for (int64_t r = 0; r < most; r++) {
    phase *ph = &p->phases[p->nphase];
    int32_t *list = p->taps + p->nphase * taps;
    const int64_t rest[3] = {r / (d->stride[1] * d->stride[2]), r / d->stride[2] % d->stride[1], r % d->stride[2]};
    ph->pixels = d->n;
    ph->k = p->sc;
    for (int i = 0; i < 3; i++) {
      axis *a = &ph->ax[i];
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
    ph->packed = packed;
    packed += d->groups * fc_packed_elements(p->dc, p->algorithm == GEMM_CHANNELS ? p->kn->nr : p->kn->mr, ph->k);
    p->nphase++;
  }
  p->packed_elements = packed;
  return FC_OK;
}

static double macs(const fc_conv_desc *d) {
  return (double)d->n * d->groups * d->icg * d->ocg * product3(d->ker) * product3(d->direction == FC_BWD_INPUT ? d->in : d->out) /
         (d->direction == FC_BWD_INPUT ? product3(d->stride) : 1);
}

/* The padded copy of a source plane: how far the taps of all phases reach, and the pitch of its phase-split rows. */
static void size_planes(fc_conv_plan *p, int64_t channels) {
  int64_t most[3] = {0}, step[3] = {1, 1, 1};
  for (int i = 0; i < 3; i++) {
    int64_t lo = 0, hi = 0;
    int any = 0;
    for (int f = 0; f < p->nphase; f++) {
      const axis *a = &p->phases[f].ax[i];
      for (int t = 0; t < a->ntap; t++) {
        lo = any ? fc_min(lo, a->off[t]) : a->off[t];
        hi = any ? fc_max(hi, a->off[t]) : a->off[t];
        any = 1;
      }
      most[i] = fc_max(most[i], a->count);
      step[i] = a->src_step;
    }
    p->low[i] = lo;
    p->span[i] = hi - lo + 1;
  }
  p->columns = fc_round_up(most[2], p->kn->vl);
  const int64_t per_phase = p->columns + fc_div_up(p->span[2], step[2]) + p->kn->vl;
  p->pitch = step[2] * per_phase;
  p->slices = most[0];
  p->rows = most[1];
  /* Fewer rows a piece until its planes fit. */
  for (;;) {
    const int64_t bytes = channels * ((p->slices - 1) * step[0] + p->span[0]) * ((p->rows - 1) * step[1] + p->span[1]) * p->pitch * p->es;
    if (bytes <= FC_PLANE_BYTES) break;
    if (p->slices > 1)
      p->slices = fc_div_up(p->slices, 2);
    else if (p->rows > 1)
      p->rows = fc_div_up(p->rows, 2);
    else
      break;
  }
  p->chunks_d = fc_div_up(most[0], p->slices);
  p->chunks_h = fc_div_up(most[1], p->rows);
}

/* Rows that lie one after another in memory count as one. */
static void merge_rows(const int64_t size[3], const int64_t strides[5], int64_t merged[3]) {
  memcpy(merged, size, 3 * sizeof *merged);
  if (strides[3] == size[2] * strides[4]) {
    merged[2] *= merged[1];
    merged[1] = 1;
    if (strides[2] == merged[2] * strides[4]) {
      merged[2] *= merged[0];
      merged[0] = 1;
    }
  }
}

static void choose(fc_conv_plan *p) {
  const fc_conv_desc *d = &p->d;
  const fc_kernels *kn = p->kn;
  char *why = p->reason, *end = p->reason + sizeof p->reason;
#define SAY(...) why += snprintf(why, (size_t)(end - why), __VA_ARGS__)
  if (d->direction == FC_BWD_WEIGHT) {
    if (d->groups > 1 && d->icg <= 4 && d->ocg <= 4) {
      p->algorithm = WEIGHT_DIRECT;
      SAY("direct: %d x %d channels a group are too few for a register tile", (int)d->icg, (int)d->ocg);
    } else {
      p->algorithm = WEIGHT_GEMM;
      SAY("direct: refused, %d x %d channels a group fill register tiles\nimplicit GEMM, the reduction over pixels", (int)d->icg, (int)d->ocg);
    }
  } else if (p->dc <= 8 && (d->groups > 1 || p->dc < kn->mr)) {
    p->algorithm = DIRECT;
    SAY("direct: %d output channels a group are too few for a register tile", (int)p->dc);
  } else {
    p->algorithm = p->ds[1] == 1 && p->ds[4] != 1 ? GEMM_CHANNELS : GEMM_PIXELS;
    SAY("direct: refused, %d output channels a group fill register tiles\nimplicit GEMM, %s in the vectors as they lie next to each other",
        (int)p->dc, p->algorithm == GEMM_CHANNELS ? "output channels" : "pixels");
  }
#undef SAY
  static const char *names[] = {"direct", "implicit_gemm", "implicit_gemm", "implicit_gemm", "direct"};
  if (p->algorithm == DIRECT || p->algorithm == WEIGHT_DIRECT)
    snprintf(p->name, sizeof p->name, "%s", names[p->algorithm]);
  else
    snprintf(p->name, sizeof p->name, "%s_%dx%d", names[p->algorithm], kn->mr, kn->nr);
}

int fc_conv_plan_create(const fc_conv_desc *d, fc_conv_plan **out) {
  *out = 0;
  const fc_kernels *kn = fc_kernels_of(d->isa, d->dtype);
  if (!kn || d->n < 1 || d->groups < 1 || d->icg < 1 || d->ocg < 1 || d->direction < FC_FWD || d->direction > FC_BWD_WEIGHT)
    return FC_ERROR_ARGUMENT;
  for (int i = 0; i < 3; i++)
    if (d->in[i] < 1 || d->out[i] < 1 || d->ker[i] < 1 || d->stride[i] < 1 || d->dil[i] < 1) return FC_ERROR_ARGUMENT;
  fc_conv_plan *p = calloc(1, sizeof *p);
  if (!p) return FC_ERROR_MEMORY;
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
  choose(p);
  int status = make_phases(p);
  if (status) {
    fc_conv_plan_destroy(p);
    return status;
  }
  merge_rows(d->out, d->ys, p->dy_rows);
  memcpy(p->x_rows, d->out, sizeof p->x_rows);
  int pointwise = 1;
  for (int i = 0; i < 3; i++) pointwise &= d->ker[i] == 1 && d->stride[i] == 1 && d->in[i] == d->out[i] && d->pad[i] == 0;
  if (pointwise) merge_rows(d->out, d->xs, p->x_rows);
  if (p->algorithm == DIRECT) size_planes(p, p->sc);
  if (p->algorithm == WEIGHT_DIRECT) size_planes(p, d->icg);
  *out = p;
  return FC_OK;
}

void fc_conv_plan_destroy(fc_conv_plan *p) {
  if (!p) return;
  free(p->phases);
  free(p->taps);
  free(p);
}

const char *fc_conv_plan_algorithm(const fc_conv_plan *p) { return p->name; }

const char *fc_conv_plan_reason(const fc_conv_plan *p) { return p->reason; }

static int packs(const fc_conv_plan *p) { return p->algorithm == GEMM_PIXELS || p->algorithm == GEMM_CHANNELS; }

int64_t fc_conv_plan_packed_bytes(const fc_conv_plan *p) { return packs(p) ? p->packed_elements * p->es + FC_ALIGN : 0; }

int fc_conv_plan_threads(const fc_conv_plan *p, int nthreads) { return macs(&p->d) < FC_SERIAL_MACS ? 1 : nthreads; }

/* ------------------------------------------------------------------------------------- packing of weights */

typedef struct weight_job {
  const fc_conv_plan *p;
  const char *w;
  char *packed;
} weight_job;

static int tile_of(const fc_conv_plan *p) { return p->algorithm == GEMM_CHANNELS ? p->kn->nr : p->kn->mr; }

/* Filters are contiguous in most arrays: some are transposed whole into rows of lanes, then the rows go to their places. */
static int by_filter(const fc_conv_plan *p) {
  const int64_t *ws = p->d.ws, *ker = p->d.ker, whole = product3(ker);
  return whole > 1 && whole <= FC_FILTER_ROWS && (ker[2] == 1 || ws[4] == 1) && (ker[1] == 1 || ws[3] == ker[2]) &&
         (ker[0] == 1 || ws[2] == ker[2] * ker[1]);
}

/* Lanes l0.. of one panel, source channels c .. c1: k runs over taps, then channels. w: this group's weights. */
static void pack_panel(const fc_conv_plan *p, const phase *ph, const char *w, char *packed, int64_t l0, int64_t c, int64_t c1) {
  const int tile = tile_of(p), lanes = (int)fc_min(tile, p->dc - l0), filters = by_filter(p);
  const int64_t *ws = p->d.ws, *ker = p->d.ker, es = p->es, whole = product3(ker), row = tile * es;
  const int64_t kstep = fc_product_kstep(p->kn, ph->k);
  int64_t off[FC_MAX_LANES];
  double rows[FC_FILTER_ROWS * FC_MAX_LANES];
  for (int l = 0; l < tile; l++) off[l] = l * p->wm;
  w += l0 * p->wm * es;
  if (filters && p->wk == whole)
    p->kn->pack(rows, tile, lanes, w + c * whole * es, off, 1, (c1 - c) * whole);
  else if (filters)
    for (int64_t x = c; x < c1; x++) p->kn->pack((char *)rows + (x - c) * whole * row, tile, lanes, w + x * p->wk * es, off, 1, whole);
  int64_t tap = 0;
  for (int td = 0; td < ph->ax[0].ntap; td++)
    for (int th = 0; th < ph->ax[1].ntap; th++)
      for (int tw = 0; tw < ph->ax[2].ntap; tw++, tap++) {
        const int64_t zd = ph->ax[0].tap[td], zh = ph->ax[1].tap[th], zw = ph->ax[2].tap[tw];
        const char *from = (char *)rows + ((zd * ker[1] + zh) * ker[2] + zw) * row;
        for (int64_t x = c, run; x < c1; x += run) {
          /* Up to the end of this block of the reduction. */
          const int64_t k = tap * p->sc + x, k0 = k / kstep * kstep, k1 = fc_min(ph->k, k0 + kstep);
          run = fc_min(c1 - x, k1 - k);
          char *to = packed + (fc_packed_at(p->dc, tile, l0, k0, k1 - k0) + (k - k0) * tile) * es;
          if (!filters)
            p->kn->pack(to, tile, lanes, w + (zd * ws[2] + zh * ws[3] + zw * ws[4] + x * p->wk) * es, off, p->wk, run);
          else
            for (int64_t y = 0; y < run; y++)
              for (int64_t b = 0; b < row; b += 8) memcpy(to + y * row + b, from + (x - c + y) * whole * row + b, 8);
        }
      }
}

/* Source channels that are packed at a time. */
static int64_t channel_step(const fc_conv_plan *p) { return by_filter(p) ? FC_FILTER_ROWS / product3(p->d.ker) : p->sc; }

/* Parts of the work: panels, or channels where those lie further apart in memory than lanes do. */
static int64_t weight_parts(const fc_conv_plan *p) {
  return p->wm < p->wk ? fc_div_up(p->sc, channel_step(p)) : fc_div_up(p->dc, tile_of(p));
}

static void pack_part(void *ctx, int64_t index, int worker) {
  (void)worker;
  const weight_job *j = ctx;
  const fc_conv_plan *p = j->p;
  const int tile = tile_of(p);
  const int64_t parts = weight_parts(p), per = parts * p->d.groups, part = index % parts, g = index % per / parts, step = channel_step(p);
  const phase *ph = &p->phases[index / per];
  const char *w = j->w + g * p->d.ocg * p->d.ws[0] * p->es;
  char *packed = j->packed + (ph->packed + g * fc_packed_elements(p->dc, tile, ph->k)) * p->es;
  if (p->wm < p->wk)
    for (int64_t l = 0; l < p->dc; l += tile) pack_panel(p, ph, w, packed, l, part * step, fc_min(p->sc, (part + 1) * step));
  else
    for (int64_t c = 0; c < p->sc; c += step) pack_panel(p, ph, w, packed, part * tile, c, fc_min(p->sc, c + step));
}

int fc_conv_pack(const fc_conv_plan *p, const void *w, void *packed, int nthreads) {
  weight_job j = {p, w, fc_aligned(packed)};
  return fc_parallel_for(fc_conv_plan_threads(p, nthreads), p->nphase * p->d.groups * weight_parts(p), pack_part, &j);
}

/* ------------------------------------------------------------------- forward, backward-input: implicit GEMM */

typedef struct conv_job {
  const fc_conv_plan *p;
  const char *first, *second, *packed, *bias, *add;
  char *result, *workspace;
  int64_t scratch;            /* bytes a worker */
  int64_t piece_m0, piece_n0, pieces_m, pieces_n;
} conv_job;

/* Output pixels of a piece, decoded: where each reads its source (for a tap of offset 0), where it is written. */
typedef struct pixels {
  const fc_conv_plan *p;
  const phase *ph;
  const char *src;
  int64_t first;              /* the pixel that entry 0 is for */
  int64_t *base, *out, *add;
  int32_t *pos, *run, *add_run; /* pos: d, h, w for each */
} pixels;

static int64_t pixel_table_bytes(int64_t n) { return n * (3 * sizeof(int64_t) + 5 * sizeof(int32_t)) + FC_ALIGN; }

static void decode(pixels *t, const fc_conv_plan *p, const phase *ph, int64_t p0, int64_t p1, void *memory, int with_add) {
  const int64_t n = p1 - p0, cap = n;
  t->p = p;
  t->ph = ph;
  t->first = p0;
  t->base = fc_aligned(memory);
  t->out = t->base + cap;
  t->add = t->out + cap;
  t->pos = (int32_t *)(t->add + cap);
  t->run = t->pos + 3 * cap;
  t->add_run = t->run + cap;
  const axis *ax = ph->ax;
  int64_t x = p0;
  int64_t w = x % ax[2].count;
  x /= ax[2].count;
  int64_t h = x % ax[1].count;
  x /= ax[1].count;
  int64_t d = x % ax[0].count, b = x / ax[0].count;
  const int64_t *ss = p->ss, *ds = p->ds, *as = p->d.as;
  for (int64_t i = 0; i < n; i++) {
    const int64_t sd = d * ax[0].src_step, sh = h * ax[1].src_step, sw = w * ax[2].src_step;
    const int64_t od = ax[0].dst_base + d * ax[0].dst_step, oh = ax[1].dst_base + h * ax[1].dst_step, ow = ax[2].dst_base + w * ax[2].dst_step;
    t->base[i] = b * ss[0] + sd * ss[2] + sh * ss[3] + sw * ss[4];
    t->pos[3 * i] = (int32_t)sd;
    t->pos[3 * i + 1] = (int32_t)sh;
    t->pos[3 * i + 2] = (int32_t)sw;
    t->out[i] = b * ds[0] + od * ds[2] + oh * ds[3] + ow * ds[4];
    if (with_add) t->add[i] = b * as[0] + od * as[2] + oh * as[3] + ow * as[4];
    if (++w == ax[2].count) {
      w = 0;
      if (++h == ax[1].count) {
        h = 0;
        if (++d == ax[0].count) {
          d = 0;
          b++;
        }
      }
    }
  }
  fc_runs(t->out, t->run, n);
  if (with_add) fc_runs(t->add, t->add_run, n);
}

/* Panels of patches: lanes are pixels, k runs over taps, then source channels. */
static void pack_pixels(const pixels *t, void *dst, int tile, int64_t l0, int64_t l1, int64_t k0, int64_t k1) {
  const fc_conv_plan *p = t->p;
  const axis *ax = t->ph->ax;
  const int64_t es = p->es, sc = p->sc;
  int64_t off[FC_MAX_LANES];
  for (int64_t l = l0; l < l1; l += tile) {
    const int lanes = (int)fc_min(tile, l1 - l);
    const int64_t *base = t->base + (l - t->first);
    const int32_t *pos = t->pos + 3 * (l - t->first);
    for (int64_t k = k0; k < k1;) {
      const int64_t tap = k / sc, c = k % sc, run = fc_min(sc - c, k1 - k);
      const int tw = (int)(tap % ax[2].ntap), th = (int)(tap / ax[2].ntap % ax[1].ntap), td = (int)(tap / ax[2].ntap / ax[1].ntap);
      const int32_t od = ax[0].off[td], oh = ax[1].off[th], ow = ax[2].off[tw];
      const int64_t shift = od * p->ss[2] + oh * p->ss[3] + ow * p->ss[4];
      for (int i = 0; i < lanes; i++) {
        const int inside = (uint64_t)(pos[3 * i] + (int64_t)od) < (uint64_t)p->src[0] &&
                           (uint64_t)(pos[3 * i + 1] + (int64_t)oh) < (uint64_t)p->src[1] &&
                           (uint64_t)(pos[3 * i + 2] + (int64_t)ow) < (uint64_t)p->src[2];
        off[i] = inside ? base[i] + shift : FC_PAD;
      }
      p->kn->pack((char *)dst + (k - k0) * tile * es, tile, lanes, t->src + c * p->ss[1] * es, off, p->ss[1], run);
      k += run;
    }
    dst = (char *)dst + tile * (k1 - k0) * es;
  }
}

/* Where the channels of a pixel of the source are contiguous, a patch is a few runs of channels, which need no packing. */
static int reads_rows(const fc_conv_plan *p) { return p->algorithm == GEMM_CHANNELS && p->ss[1] == 1; }

static int64_t row_table_bytes(const fc_conv_plan *p, int64_t pixels) {
  return fc_round_up(pixels * product3(p->d.ker) * (int64_t)sizeof(void *), FC_ALIGN) + fc_round_up(p->sc * p->es, FC_ALIGN);
}

/* The addresses of n pixels' channels for every tap; taps in the padding find a row of zeros. */
static void find_rows(const pixels *t, int64_t n, void *memory, fc_rows *rows) {
  const fc_conv_plan *p = t->p;
  const axis *ax = t->ph->ax;
  const char *zeros = memset(memory, 0, (size_t)(p->sc * p->es));
  const void **at = (const void **)((char *)memory + fc_round_up(p->sc * p->es, FC_ALIGN));
  *rows = (fc_rows){at, p->sc, n};
  for (int td = 0; td < ax[0].ntap; td++)
    for (int th = 0; th < ax[1].ntap; th++)
      for (int tw = 0; tw < ax[2].ntap; tw++) {
        const int64_t od = ax[0].off[td], oh = ax[1].off[th], ow = ax[2].off[tw];
        const char *src = t->src + (od * p->ss[2] + oh * p->ss[3] + ow * p->ss[4]) * p->es;
        for (int64_t i = 0; i < n; i++) {
          const int32_t *pos = t->pos + 3 * i;
          const int inside = (uint64_t)(pos[0] + od) < (uint64_t)p->src[0] && (uint64_t)(pos[1] + oh) < (uint64_t)p->src[1] &&
                             (uint64_t)(pos[2] + ow) < (uint64_t)p->src[2];
          *at++ = inside ? src + t->base[i] * p->es : zeros;
        }
      }
}

static void pack_pixels_b(void *work, void *dst, int64_t l0, int64_t l1, int64_t k0, int64_t k1) {
  const pixels *t = work;
  pack_pixels(t, dst, t->p->kn->nr, l0, l1, k0, k1);
}

static void pack_pixels_a(void *work, void *dst, int64_t l0, int64_t l1, int64_t k0, int64_t k1) {
  const pixels *t = work;
  pack_pixels(t, dst, t->p->kn->mr, l0, l1, k0, k1);
}

static void partition_phase(const fc_conv_plan *p, const phase *ph, int nthreads, int64_t *pm, int64_t *pn) {
  const fc_kernels *kn = p->kn;
  const int64_t copies = p->d.groups * p->nphase;
  if (p->algorithm == GEMM_CHANNELS) /* rows are pixels: one block of rows a piece, all channels */
    fc_partition(ph->pixels, p->dc, kn->mr, kn->nr, kn->mc, 8 * FC_PIECE_LANES / kn->nr * kn->nr, copies, nthreads, pm, pn);
  else
    fc_partition(p->dc, ph->pixels, kn->mr, kn->nr, 1 << 16, FC_PIECE_LANES / kn->nr * kn->nr, copies, nthreads, pm, pn);
}

/* Pieces of every phase in one row, so that threads stay busy across phases. The first phase is the largest. */
static void conv_partition(conv_job *j, int nthreads) {
  const fc_conv_plan *p = j->p;
  const phase *ph = &p->phases[0];
  partition_phase(p, ph, nthreads, &j->piece_m0, &j->piece_n0);
  const int by_channel = p->algorithm == GEMM_CHANNELS;
  j->pieces_m = fc_div_up(by_channel ? ph->pixels : p->dc, j->piece_m0);
  j->pieces_n = fc_div_up(by_channel ? p->dc : ph->pixels, j->piece_n0);
  int64_t deepest = 0;
  for (int f = 0; f < p->nphase; f++) deepest = fc_max(deepest, fc_min(p->phases[f].k, fc_product_kstep(p->kn, p->phases[f].k)));
  const int64_t lanes = by_channel ? fc_min(j->piece_m0, fc_round_up(p->kn->mc, p->kn->mr)) : j->piece_n0;
  const int64_t operand = reads_rows(p) ? row_table_bytes(p, lanes) : lanes * deepest * p->es;
  j->scratch = fc_round_up(operand + pixel_table_bytes(lanes) + 4 * FC_ALIGN, FC_ALIGN);
}

static void conv_piece(void *ctx, int64_t index, int worker) {
  const conv_job *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_kernels *kn = p->kn;
  const int64_t es = p->es, per = j->pieces_m * j->pieces_n, groups = p->d.groups;
  const phase *ph = &p->phases[index / (per * groups)];
  const int64_t g = index / per % groups, part = index % per;
  const int by_channel = p->algorithm == GEMM_CHANNELS;
  const int64_t rows = by_channel ? ph->pixels : p->dc, cols = by_channel ? p->dc : ph->pixels;
  const int64_t m0 = part % j->pieces_m * j->piece_m0, m1 = fc_min(rows, m0 + j->piece_m0);
  const int64_t n0 = part / j->pieces_m * j->piece_n0, n1 = fc_min(cols, n0 + j->piece_n0);
  if (m0 >= m1 || n0 >= n1) return;
  char *scratch = j->workspace + worker * j->scratch;
  const fc_product prod = {kn, es, rows, cols, ph->k, fc_product_kstep(kn, ph->k)};
  const int64_t c0 = by_channel ? n0 : m0, p0 = by_channel ? m0 : n0, p1 = by_channel ? m1 : n1;
  pixels t;
  decode(&t, p, ph, p0, p1, scratch, j->add != 0);
  t.src = j->first + g * p->sc * p->ss[1] * es;
  fc_operand patches = {.pack = by_channel ? pack_pixels_a : pack_pixels_b, .work = &t};
  fc_operand weights = {.packed = j->packed + (ph->packed + g * fc_packed_elements(p->dc, tile_of(p), ph->k)) * es};
  fc_rows patch_rows;
  scratch += fc_round_up(pixel_table_bytes(p1 - p0), FC_ALIGN);
  if (reads_rows(p)) {
    find_rows(&t, p1 - p0, scratch, &patch_rows);
    patches.rows = &patch_rows;
  }
  const int64_t channel = g * p->dc + c0;
  fc_view out = {.p = j->result + channel * p->ds[1] * es};
  fc_view add = {.p = j->add ? (char *)j->add + channel * p->d.as[1] * es : 0};
  if (by_channel) {
    out.roff = t.out;
    out.cs = p->ds[1];
    add.roff = t.add;
    add.cs = p->d.as[1];
  } else {
    out.coff = t.out;
    out.crun = t.run;
    out.rs = p->ds[1];
    add.coff = t.add;
    add.crun = t.add_run;
    add.rs = p->d.as[1];
  }
  const char *bias = j->bias ? j->bias + channel * es : 0;
  const fc_act *act = &p->d.act;
  fc_epilogue ep = {1, 1, by_channel ? 0 : bias, by_channel ? bias : 0, act->kind, act->p0, act->p1};
  fc_product_piece(&prod, by_channel ? patches : weights, by_channel ? weights : patches, m0, m1, n0, n1, &out, &add, &ep,
                   scratch);
}

/* ------------------------------------------------------------------- forward, backward-input: direct planes */

typedef struct direct_sizes {
  int64_t depth, height;      /* of the padded source */
  int64_t plane, planes, out, taps, bias, total;
} direct_sizes;

static direct_sizes direct_scratch(const fc_conv_plan *p, int64_t channels) {
  const axis *ax = p->phases[0].ax;
  direct_sizes s;
  s.depth = (p->slices - 1) * ax[0].src_step + p->span[0];
  s.height = (p->rows - 1) * ax[1].src_step + p->span[1];
  s.plane = s.depth * s.height * p->pitch;
  s.planes = fc_round_up(channels * s.plane * p->es + FC_ALIGN, FC_ALIGN);
  s.out = fc_round_up(p->slices * p->rows * p->columns * p->es, FC_ALIGN);
  s.taps = fc_round_up(product3(p->d.ker) * (p->es + (int64_t)sizeof(int64_t)), FC_ALIGN);
  s.bias = fc_round_up(p->rows * p->es, FC_ALIGN);
  s.total = s.planes + s.out + s.taps + s.bias + FC_ALIGN;
  return s;
}

/* Where a tap of the kernel lies among the weights. */
static int64_t tap_stride(const fc_conv_desc *d, int64_t tap) {
  return tap / d->ker[2] / d->ker[1] * d->ws[2] + tap / d->ker[2] % d->ker[1] * d->ws[3] + tap % d->ker[2] * d->ws[4];
}

static void copy_strided(int64_t es, void *dst, const void *src, int64_t ss, int64_t n) {
  if (ss == 1 && n > 1)
    memcpy(dst, src, (size_t)(n * es));
  else if (es == 4)
    for (int64_t i = 0; i < n; i++) ((float *)dst)[i] = ((const float *)src)[i * ss];
  else
    for (int64_t i = 0; i < n; i++) ((double *)dst)[i] = ((const double *)src)[i * ss];
}

/* Copies the source rows that slices d0.. and rows h0.. of the output reach, padded with zeros; columns are split by
 * their remainder by the step, so that the columns of one tap lie next to each other. */
static void copy_planes(const fc_conv_plan *p, const direct_sizes *s, const char *src, int64_t channels, int64_t d0, int64_t h0, char *dst) {
  const axis *ax = p->phases[0].ax;
  const int64_t es = p->es, step = ax[2].src_step, per = p->pitch / step, low = p->low[2];
  memset(dst, 0, (size_t)(channels * s->plane * es));
  const int64_t first = fc_max(0, low), last = fc_min(p->src[2], low + per * step);
  for (int64_t c = 0; c < channels; c++)
    for (int64_t d = 0; d < s->depth; d++) {
      const int64_t sd = d0 * ax[0].src_step + p->low[0] + d;
      if (sd < 0 || sd >= p->src[0]) continue;
      for (int64_t h = 0; h < s->height; h++) {
        const int64_t sh = h0 * ax[1].src_step + p->low[1] + h;
        if (sh < 0 || sh >= p->src[1] || first >= last) continue;
        const char *from = src + (c * p->ss[1] + sd * p->ss[2] + sh * p->ss[3]) * es;
        char *to = dst + (c * s->plane + (d * s->height + h) * p->pitch) * es;
        for (int64_t r = 0; r < step; r++) {
          /* Column low + r + step i of the source goes to part r of the row, place i. */
          const int64_t i = first > low + r ? fc_div_up(first - low - r, step) : 0, w = low + r + step * i;
          if (w < last) copy_strided(es, to + (r * per + i) * es, from + w * p->ss[4] * es, step * p->ss[4], fc_div_up(last - w, step));
        }
      }
    }
}

/* Where the taps of a phase lie in a padded plane, and (with w) their weights. Returns how many. */
static int64_t place_taps(const fc_conv_plan *p, const direct_sizes *s, const phase *ph, const char *w, int64_t *toff, char *wei) {
  const axis *ax = ph->ax;
  const int64_t *ws = p->d.ws, es = p->es, step = ax[2].src_step, per = p->pitch / step;
  int64_t n = 0;
  for (int td = 0; td < ax[0].ntap; td++)
    for (int th = 0; th < ax[1].ntap; th++)
      for (int tw = 0; tw < ax[2].ntap; tw++) {
        const int64_t column = ax[2].off[tw] - p->low[2];
        toff[n] = ((ax[0].off[td] - p->low[0]) * s->height + ax[1].off[th] - p->low[1]) * p->pitch + column % step * per + column / step;
        if (w) memcpy(wei + n * es, w + (ax[0].tap[td] * ws[2] + ax[1].tap[th] * ws[3] + ax[2].tap[tw] * ws[4]) * es, (size_t)es);
        n++;
      }
  return n;
}

static void direct_piece(void *ctx, int64_t index, int worker) {
  const conv_job *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_conv_desc *d = &p->d;
  const int64_t es = p->es, chunks = p->chunks_d * p->chunks_h;
  const int64_t b = index / chunks / d->groups, g = index / chunks % d->groups;
  const int64_t d0 = index % chunks / p->chunks_h * p->slices, h0 = index % chunks % p->chunks_h * p->rows;
  const direct_sizes s = direct_scratch(p, p->sc);
  char *planes = j->workspace + worker * j->scratch, *out = planes + s.planes;
  int64_t *toff = (int64_t *)(out + s.out);
  char *wei = (char *)(toff + product3(d->ker)), *bias = out + s.out + s.taps;
  copy_planes(p, &s, j->first + (b * p->ss[0] + g * p->sc * p->ss[1]) * es, p->sc, d0, h0, planes);
  for (int f = 0; f < p->nphase; f++) {
    const phase *ph = &p->phases[f];
    const axis *ax = ph->ax;
    const int64_t d1 = fc_min(ax[0].count, d0 + p->slices), h1 = fc_min(ax[1].count, h0 + p->rows);
    if (d0 >= d1 || h0 >= h1) continue;
    for (int64_t m = 0; m < p->dc; m++) {
      const int64_t channel = g * p->dc + m;
      for (int64_t c = 0; c < p->sc; c++) {
        const char *w = j->second + (g * d->ocg * d->ws[0] + m * p->wm + c * p->wk) * es;
        const int64_t ntap = place_taps(p, &s, ph, w, toff, wei);
        for (int64_t z = d0; z < d1; z++) {
          fc_plane t = {
              .src = planes + (c * s.plane + (z - d0) * ax[0].src_step * s.height * p->pitch) * es, .toff = toff, .ntap = ntap,
              .wei = wei, .rows = h1 - h0, .cols = ax[2].count, .src_row = ax[1].src_step * p->pitch,
              .out = out + (z - d0) * p->rows * p->columns * es, .out_row = p->columns, .first = c == 0,
          };
          p->kn->plane(&t);
        }
      }
      for (int64_t h = 0; j->bias && h < h1 - h0; h++) memcpy(bias + h * es, j->bias + channel * es, (size_t)es);
      const fc_epilogue ep = {1, 1, j->bias ? bias : 0, 0, d->act.kind, d->act.p0, d->act.p1};
      for (int64_t z = d0; z < d1; z++) {
        const int64_t od = ax[0].dst_base + z * ax[0].dst_step, oh = ax[1].dst_base + h0 * ax[1].dst_step, ow = ax[2].dst_base;
        const int64_t *ds = p->ds, *as = d->as;
        fc_block t = {
            .m = h1 - h0, .n = ax[2].count, .ep = &ep, .first = 1, .last = 1,
            .out = {.p = j->result + (b * ds[0] + channel * ds[1] + od * ds[2] + oh * ds[3] + ow * ds[4]) * es,
                    .rs = ax[1].dst_step * ds[3], .cs = ax[2].dst_step * ds[4]},
            .add = {.p = j->add ? (char *)j->add + (b * as[0] + channel * as[1] + od * as[2] + oh * as[3] + ow * as[4]) * es : 0,
                    .rs = ax[1].dst_step * as[3], .cs = ax[2].dst_step * as[4]},
        };
        p->kn->write(out + (z - d0) * p->rows * p->columns * es, p->columns, &t);
      }
    }
  }
}

/* --------------------------------------------------------------------- backward-weight: GEMM over pixels */

typedef struct weight_work {
  const fc_conv_plan *p;
  const char *x, *dy;
} weight_work;

/* The run of output pixels that starts at the k-th and ends with its row, or before k1. */
typedef struct row {
  int64_t b, d, h, w, len;
} row;

static row row_at(const int64_t size[3], int64_t k, int64_t k1) {
  const int64_t w = k % size[2], r = k / size[2];
  return (row){r / size[1] / size[0], r / size[1] % size[0], r % size[1], w, fc_min(size[2] - w, k1 - k)};
}

/* Lanes are output channels. */
static void pack_dy(void *work, void *dst, int64_t l0, int64_t l1, int64_t k0, int64_t k1) {
  const weight_work *t = work;
  const fc_conv_plan *p = t->p;
  const int64_t *ys = p->d.ys, es = p->es;
  const int tile = p->kn->mr;
  int64_t off[FC_MAX_LANES];
  for (int l = 0; l < tile; l++) off[l] = l * ys[1];
  for (int64_t l = l0; l < l1; l += tile) {
    row r;
    for (int64_t k = k0; k < k1; k += r.len) {
      r = row_at(p->dy_rows, k, k1);
      const int64_t at = r.b * ys[0] + l * ys[1] + r.d * ys[2] + r.h * ys[3] + r.w * ys[4];
      p->kn->pack((char *)dst + (k - k0) * tile * es, tile, (int)fc_min(tile, l1 - l), t->dy + at * es, off, ys[4], r.len);
    }
    dst = (char *)dst + tile * (k1 - k0) * es;
  }
}

/* Lanes are (tap, input channel). A row is cut where a tap enters or leaves the padding, so that each part of it packs
 * with the same lanes inside. */
static void pack_patches(void *work, void *dst, int64_t l0, int64_t l1, int64_t k0, int64_t k1) {
  const weight_work *t = work;
  const fc_conv_plan *p = t->p;
  const fc_conv_desc *d = &p->d;
  const int64_t *xs = d->xs, es = p->es;
  const int tile = p->kn->nr;
  int64_t lane[FC_MAX_LANES], off[FC_MAX_LANES];
  int64_t at[FC_MAX_LANES][3];
  for (int64_t l = l0; l < l1; l += tile) {
    const int lanes = (int)fc_min(tile, l1 - l);
    /* Lanes of the same tap are in the padding together. */
    const int together = l / d->icg == (l + lanes - 1) / d->icg;
    for (int i = 0; i < lanes; i++) {
      const int64_t tap = (l + i) / d->icg, c = (l + i) % d->icg;
      at[i][0] = tap / d->ker[2] / d->ker[1] * d->dil[0] - d->pad[0];
      at[i][1] = tap / d->ker[2] % d->ker[1] * d->dil[1] - d->pad[1];
      at[i][2] = tap % d->ker[2] * d->dil[2] - d->pad[2];
      lane[i] = c * xs[1] + at[i][0] * xs[2] + at[i][1] * xs[3] + at[i][2] * xs[4];
    }
    row r;
    for (int64_t k = k0; k < k1; k += r.len) {
      r = row_at(p->x_rows, k, k1);
      const int64_t id = r.d * d->stride[0], ih = r.h * d->stride[1], s = d->stride[2];
      for (int64_t from = 0, to; from < r.len; from = to) {
        to = r.len;
        for (int i = 0; i < (together ? 1 : lanes); i++) {
          /* tap i is inside for lo <= o < hi */
          const int64_t lo = at[i][2] < 0 ? fc_div_up(-at[i][2], s) - r.w : -r.w;
          const int64_t hi = p->x_rows[2] != d->out[2] ? r.len : d->in[2] - 1 - at[i][2] < 0 ? -1 : (d->in[2] - 1 - at[i][2]) / s + 1 - r.w;
          const int inside = (uint64_t)(id + at[i][0]) < (uint64_t)d->in[0] && (uint64_t)(ih + at[i][1]) < (uint64_t)d->in[1] &&
                             lo <= from && from < hi;
          off[i] = inside ? lane[i] : FC_PAD;
          if (lo > from) to = fc_min(to, lo);
          if (hi > from) to = fc_min(to, hi);
        }
        for (int i = 1; together && i < lanes; i++) off[i] = off[0] == FC_PAD ? FC_PAD : lane[i];
        const int64_t base = r.b * xs[0] + id * xs[2] + ih * xs[3] + (r.w + from) * s * xs[4];
        p->kn->pack((char *)dst + (k - k0 + from) * tile * es, tile, lanes, t->x + base * es, off, s * xs[4], to - from);
      }
    }
    dst = (char *)dst + tile * (k1 - k0) * es;
  }
}

static fc_product weight_product(const fc_conv_plan *p) {
  const fc_conv_desc *d = &p->d;
  const int64_t k = d->n * product3(d->out);
  return (fc_product){p->kn, p->es, d->ocg, d->icg * product3(d->ker), k, fc_product_kstep(p->kn, k)};
}

static void weight_partition(conv_job *j, int nthreads) {
  const fc_conv_plan *p = j->p;
  const fc_product prod = weight_product(p);
  fc_partition(prod.m, prod.n, p->kn->mr, p->kn->nr, 2 * p->kn->mc, 2 * FC_PIECE_LANES / p->kn->nr * p->kn->nr, p->d.groups, nthreads,
               &j->piece_m0, &j->piece_n0);
  j->pieces_m = fc_div_up(prod.m, j->piece_m0);
  j->pieces_n = fc_div_up(prod.n, j->piece_n0);
  const int64_t table = j->piece_n0 * (int64_t)(sizeof(int64_t) + sizeof(int32_t));
  j->scratch = fc_round_up(fc_max(table, fc_product_scratch(&prod, j->piece_n0)), FC_ALIGN) + fc_round_up(j->piece_m0 * j->piece_n0 * p->es, FC_ALIGN);
}

static void weight_piece(void *ctx, int64_t index, int worker) {
  const conv_job *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_conv_desc *d = &p->d;
  const fc_product prod = weight_product(p);
  const int64_t es = p->es, per = j->pieces_m * j->pieces_n, g = index / per;
  const int64_t m0 = index % per % j->pieces_m * j->piece_m0, m1 = fc_min(prod.m, m0 + j->piece_m0);
  const int64_t n0 = index % per / j->pieces_m * j->piece_n0, n1 = fc_min(prod.n, n0 + j->piece_n0);
  weight_work t = {p, j->first + g * d->icg * d->xs[1] * es, j->second + g * d->ocg * d->ys[1] * es};
  char *sums = j->workspace + worker * j->scratch;
  void *scratch = sums + fc_round_up(j->piece_m0 * j->piece_n0 * es, FC_ALIGN);
  const int64_t ld = n1 - n0;
  const fc_view out = {.p = sums, .rs = ld, .cs = 1}, none = {0};
  const fc_epilogue plain = {1, 0, 0, 0, FC_ACT_NONE, 0, 0};
  fc_product_piece(&prod, (fc_operand){.pack = pack_dy, .work = &t}, (fc_operand){.pack = pack_patches, .work = &t}, m0, m1, n0, n1, &out, &none, &plain, scratch);
  int64_t *coff = scratch;
  int32_t *crun = (int32_t *)(coff + ld);
  for (int64_t l = n0; l < n1; l++) coff[l - n0] = l % d->icg * d->ws[1] + tap_stride(d, l / d->icg);
  fc_runs(coff, crun, ld);
  const fc_block to = {.m = m1 - m0, .n = ld, .ep = &plain, .first = 1, .last = 1,
                       .out = {.p = j->result + (g * d->ocg + m0) * d->ws[0] * es, .rs = d->ws[0], .coff = coff, .crun = crun}};
  p->kn->write(sums, ld, &to);
}

/* ----------------------------------------------------------------------- backward-weight: direct planes */

static int64_t weight_sums(const fc_conv_plan *p) { return fc_round_up(p->d.ocg * p->d.icg * product3(p->d.ker) * p->es, FC_ALIGN); }

/* One group: planes of x are copied as in the direct forward pass, rows of dy filled up with zeros. */
static void weight_direct_piece(void *ctx, int64_t g, int worker) {
  const conv_job *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_conv_desc *d = &p->d;
  const int64_t es = p->es, ntap = product3(d->ker);
  const direct_sizes s = direct_scratch(p, d->icg);
  char *sums = j->workspace + worker * j->scratch, *planes = sums + weight_sums(p), *rows = planes + s.planes;
  int64_t *toff = (int64_t *)(rows + s.out);
  const axis *ax = p->phases[0].ax;
  memset(sums, 0, (size_t)(d->ocg * d->icg * ntap * es));
  place_taps(p, &s, &p->phases[0], 0, toff, 0);
  for (int64_t b = 0; b < d->n; b++)
    for (int64_t d0 = 0; d0 < d->out[0]; d0 += p->slices)
      for (int64_t h0 = 0; h0 < d->out[1]; h0 += p->rows) {
        const int64_t d1 = fc_min(d->out[0], d0 + p->slices), h1 = fc_min(d->out[1], h0 + p->rows);
        copy_planes(p, &s, j->first + (b * d->xs[0] + g * d->icg * d->xs[1]) * es, d->icg, d0, h0, planes);
        for (int64_t m = 0; m < d->ocg; m++)
          for (int64_t z = d0; z < d1; z++) {
            memset(rows, 0, (size_t)(p->rows * p->columns * es));
            for (int64_t h = h0; h < h1; h++) {
              const char *from = j->second + (b * d->ys[0] + (g * d->ocg + m) * d->ys[1] + z * d->ys[2] + h * d->ys[3]) * es;
              copy_strided(es, rows + (h - h0) * p->columns * es, from, d->ys[4], d->out[2]);
            }
            for (int64_t c = 0; c < d->icg; c++) {
              fc_plane t = {
                  .src = planes + (c * s.plane + (z - d0) * ax[0].src_step * s.height * p->pitch) * es, .toff = toff, .ntap = ntap,
                  .wei = sums + (m * d->icg + c) * ntap * es, .rows = h1 - h0, .cols = d->out[2], .src_row = ax[1].src_step * p->pitch,
                  .out = rows, .out_row = p->columns,
              };
              p->kn->plane_weight(&t);
            }
          }
      }
  for (int64_t m = 0; m < d->ocg; m++)
    for (int64_t c = 0; c < d->icg; c++)
      for (int64_t tap = 0; tap < ntap; tap++)
        copy_strided(es, j->result + ((g * d->ocg + m) * d->ws[0] + c * d->ws[1] + tap_stride(d, tap)) * es,
                     sums + ((m * d->icg + c) * ntap + tap) * es, 1, 1);
}

/* ------------------------------------------------------------------------------------------------- running */

/* Sizes the pieces and a worker's scratch; returns how many pieces there are, and what runs one. */
static int64_t pieces(conv_job *j, int nthreads, fc_piece_fn *run) {
  const fc_conv_plan *p = j->p;
  const fc_conv_desc *d = &p->d;
  switch (p->algorithm) {
  case DIRECT:
    *run = direct_piece;
    j->scratch = direct_scratch(p, p->sc).total;
    return d->n * d->groups * p->chunks_d * p->chunks_h;
  case WEIGHT_GEMM:
    *run = weight_piece;
    weight_partition(j, nthreads);
    return d->groups * j->pieces_m * j->pieces_n;
  case WEIGHT_DIRECT:
    *run = weight_direct_piece;
    j->scratch = weight_sums(p) + direct_scratch(p, d->icg).total;
    return d->groups;
  default:
    *run = conv_piece;
    conv_partition(j, nthreads);
    return p->nphase * d->groups * j->pieces_m * j->pieces_n;
  }
}

int64_t fc_conv_plan_workspace(const fc_conv_plan *p, int nthreads, int packed) {
  conv_job j = {.p = p};
  fc_piece_fn run;
  pieces(&j, nthreads, &run);
  return (packed ? 0 : fc_conv_plan_packed_bytes(p)) + fc_max(1, nthreads) * j.scratch + 2 * FC_ALIGN;
}

int fc_conv_run(const fc_conv_plan *p, const void *first, const void *second, const void *packed, const void *bias, const void *add,
                void *result, void *workspace, int nthreads) {
  conv_job j = {.p = p, .first = first, .second = second, .bias = bias, .add = add, .result = result, .workspace = fc_aligned(workspace)};
  if (packs(p)) {
    if (!packed) {
      packed = j.workspace;
      int status = fc_conv_pack(p, second, j.workspace, nthreads);
      if (status) return status;
      j.workspace += fc_round_up(fc_conv_plan_packed_bytes(p), FC_ALIGN);
    }
    j.packed = fc_aligned((void *)packed);
  }
  fc_piece_fn run;
  const int64_t n = pieces(&j, nthreads, &run);
  return fc_parallel_for(nthreads, n, run, &j);
}
