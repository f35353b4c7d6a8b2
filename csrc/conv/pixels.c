/* Which pixels of the source the outputs of a piece read, and where they go. */
#include "conv/conv.h"

int64_t fc_pixels_bytes(int64_t n) { return n * (int64_t)(3 * sizeof(int64_t) + 5 * sizeof(int32_t)) + FC_ALIGN; }

/* Where a phase's pixel of this number is. */
static void place(const fc_axis ax[3], int64_t x, int64_t *w, int64_t *h, int64_t *d, int64_t *b) {
  *w = x % ax[2].count;
  x /= ax[2].count;
  *h = x % ax[1].count;
  x /= ax[1].count;
  *d = x % ax[0].count;
  *b = x / ax[0].count;
}

void fc_pixels_decode(fc_pixels *t, const fc_conv_plan *p, const fc_phase *ph, const int32_t *list, int64_t p0, int64_t p1,
                      void *memory, int with_add) {
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
  const fc_axis *ax = ph->ax;
  int64_t w, h, d, b;
  place(ax, list ? list[p0] : p0, &w, &h, &d, &b);
  const int64_t *ss = p->src_stride, *ds = p->dst_stride, *as = p->d.add_stride;
  for (int64_t i = 0; i < n; i++) {
    const int64_t sd = d * ax[0].src_step, sh = h * ax[1].src_step, sw = w * ax[2].src_step;
    const int64_t od = ax[0].dst_base + d * ax[0].dst_step, oh = ax[1].dst_base + h * ax[1].dst_step,
                  ow = ax[2].dst_base + w * ax[2].dst_step;
    t->base[i] = b * ss[0] + sd * ss[2] + sh * ss[3] + sw * ss[4];
    t->pos[3 * i] = (int32_t)sd;
    t->pos[3 * i + 1] = (int32_t)sh;
    t->pos[3 * i + 2] = (int32_t)sw;
    t->out[i] = b * ds[0] + od * ds[2] + oh * ds[3] + ow * ds[4];
    if (with_add) t->add[i] = b * as[0] + od * as[2] + oh * as[3] + ow * as[4];
    if (list) {
      if (i + 1 < n) place(ax, list[p0 + i + 1], &w, &h, &d, &b);
      continue;
    }
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

int64_t fc_pixels_rows_bytes(const fc_conv_plan *p, int64_t n, int64_t channels) {
  return fc_round_up(n * fc_product3(p->d.ker) * (int64_t)sizeof(void *), FC_ALIGN) + fc_round_up(channels * p->es, FC_ALIGN) +
         FC_ALIGN;
}

void fc_pixels_rows(const fc_pixels *t, int64_t n, int64_t channels, void *memory, fc_rows *rows) {
  const fc_conv_plan *p = t->p;
  const fc_axis *ax = t->ph->ax;
  const int64_t es = p->es, width = ax[2].count, step = ax[2].src_step, bytes = step * p->src_stride[4] * es;
  const char *zeros = memset(memory, 0, (size_t)(channels * es));
  const char **at = (const char **)fc_aligned((char *)memory + channels * es);
  *rows = (fc_rows){(const void *const *)at, channels, n};
  for (int td = 0; td < ax[0].ntap; td++)
    for (int th = 0; th < ax[1].ntap; th++)
      for (int tw = 0; tw < ax[2].ntap; tw++, at += n) {
        const int64_t od = ax[0].off[td], oh = ax[1].off[th], ow = ax[2].off[tw];
        const int64_t shift = (od * p->src_stride[2] + oh * p->src_stride[3] + ow * p->src_stride[4]) * es;
        /* Row by row of the result: within one, addresses go up in steps, but for the padding at both ends. */
        for (int64_t i = 0, end; i < n; i = end) {
          const int32_t *pos = t->pos + 3 * i;
          end = fc_min(n, i + width - pos[2] / step);
          const int64_t first = pos[2] + ow, last = p->src_size[2] - 1 - first;
          int64_t from = first < 0 ? fc_min(end, i + fc_div_up(-first, step)) : i,
                  to = last < 0 ? i : fc_min(end, i + last / step + 1);
          if ((uint64_t)(pos[0] + od) >= (uint64_t)p->src_size[0] || (uint64_t)(pos[1] + oh) >= (uint64_t)p->src_size[1]) to = i;
          from = fc_min(from, fc_max(i, to));
          const char *src = t->src + t->base[i] * es + shift;
          for (int64_t x = i; x < from; x++) at[x] = zeros;
          for (int64_t x = from; x < to; x++) at[x] = src + (x - i) * bytes;
          for (int64_t x = fc_max(from, to); x < end; x++) at[x] = zeros;
        }
      }
}
