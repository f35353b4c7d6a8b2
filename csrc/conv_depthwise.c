/* Depthwise layers whose channels are contiguous (NHWC): one output channel for each input channel, side by side in a
 * vector, in all three directions. */
#include "conv.h"

/* Pixels whose addresses are looked up at a time. */
enum { PIXELS = 128 };

static int64_t wei_row(const fc_conv_plan *p) { return fc_round_up(p->d.groups, p->kn->vl); }

static int64_t phase_taps(const fc_phase *ph) { return (int64_t)ph->ax[0].ntap * ph->ax[1].ntap * ph->ax[2].ntap; }

/* ---- weights: for each phase, a row of all channels for each tap ---- */

static void prepare(fc_conv_plan *p) {
  int64_t packed = 0;
  for (int f = 0; f < p->nphase; f++) {
    p->phases[f].packed = packed;
    packed += phase_taps(&p->phases[f]) * wei_row(p);
  }
}

static int64_t packed_elements(const fc_conv_plan *p) {
  const fc_phase *last = &p->phases[p->nphase - 1];
  return last->packed + phase_taps(last) * wei_row(p);
}

static int pack(const fc_conv_plan *p, const void *w, void *packed, int nthreads) {
  (void)nthreads;
  const int64_t es = p->es, *ker = p->d.ker;
  const int vl = p->kn->vl;
  int64_t off[FC_MAX_LANES];
  for (int l = 0; l < vl; l++) off[l] = l * p->d.ws[0];
  for (int f = 0; f < p->nphase; f++) {
    const fc_phase *ph = &p->phases[f];
    char *to = (char *)packed + ph->packed * es;
    for (int td = 0; td < ph->ax[0].ntap; td++)
      for (int th = 0; th < ph->ax[1].ntap; th++)
        for (int tw = 0; tw < ph->ax[2].ntap; tw++, to += wei_row(p) * es) {
          const int64_t tap = (ph->ax[0].tap[td] * ker[1] + ph->ax[1].tap[th]) * ker[2] + ph->ax[2].tap[tw];
          for (int64_t c = 0; c < p->d.groups; c += vl)
            p->kn->pack(to + c * es, vl, (int)fc_min(vl, p->d.groups - c),
                        (const char *)w + (fc_tap_stride(&p->d, tap) + c * p->d.ws[0]) * es, off, 0, 1);
        }
  }
  return FC_OK;
}

/* ---- forward, backward-input ---- */

static int64_t pieces(fc_conv_call *j, int nthreads) {
  (void)nthreads;
  const fc_conv_plan *p = j->p;
  j->pieces_m = 0;
  for (int f = 0; f < p->nphase; f++) j->pieces_m = fc_max(j->pieces_m, fc_div_up(p->phases[f].pixels, PIXELS));
  j->scratch = fc_round_up(fc_pixels_bytes(PIXELS), FC_ALIGN) +
               fc_round_up(fc_pixels_rows_bytes(p, PIXELS, p->d.groups), FC_ALIGN) +
               fc_round_up(PIXELS * wei_row(p) * p->es, FC_ALIGN);
  return j->pieces_m * p->nphase;
}

static void piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_phase *ph = &p->phases[index / j->pieces_m];
  const int64_t es = p->es, p0 = index % j->pieces_m * PIXELS, p1 = fc_min(ph->pixels, p0 + PIXELS);
  if (p0 >= p1) return;
  char *table = j->workspace + worker * j->scratch, *rows_at = table + fc_round_up(fc_pixels_bytes(PIXELS), FC_ALIGN);
  char *out = rows_at + fc_round_up(fc_pixels_rows_bytes(p, PIXELS, p->d.groups), FC_ALIGN);
  fc_pixels t;
  fc_rows rows;
  fc_pixels_decode(&t, p, ph, p0, p1, table, j->add != 0);
  t.src = j->first;
  fc_pixels_rows(&t, p1 - p0, p->d.groups, rows_at, &rows);
  const fc_depth depth = {.rows = &rows,
                          .ntap = phase_taps(ph),
                          .channels = p->d.groups,
                          .wei = (char *)j->packed + ph->packed * es,
                          .wei_row = wei_row(p),
                          .out = out,
                          .out_row = wei_row(p)};
  p->kn->depth(&depth);
  const fc_act *act = &p->d.act;
  const fc_epilogue ep = {1, 1, 0, j->bias, act->kind, act->p0, act->p1};
  const fc_block write = {.m = p1 - p0,
                          .n = p->d.groups,
                          .ep = &ep,
                          .first = 1,
                          .last = 1,
                          .out = {.p = j->result, .roff = t.out, .cs = p->ds[1]},
                          .add = {.p = (void *)j->add, .roff = t.add, .cs = p->d.as[1]}};
  p->kn->write(out, wei_row(p), &write);
}

/* ---- backward-weight: a piece is a range of channels, and goes through all pixels in their order ---- */

static int64_t weight_pieces(fc_conv_call *j, int nthreads) {
  const fc_conv_plan *p = j->p;
  j->piece_m = fc_round_up(fc_div_up(p->d.groups, nthreads > 1 ? 2 * nthreads : 1), 2 * p->kn->vl);
  j->scratch = fc_round_up(fc_pixels_bytes(PIXELS), FC_ALIGN) +
               fc_round_up(fc_pixels_rows_bytes(p, PIXELS, p->d.groups), FC_ALIGN) +
               fc_round_up(fc_product3(p->d.ker) * j->piece_m * p->es, FC_ALIGN);
  return fc_div_up(p->d.groups, j->piece_m);
}

static void weight_piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_phase *ph = &p->phases[0];
  const int64_t es = p->es, c0 = index * j->piece_m, channels = fc_min(p->d.groups, c0 + j->piece_m) - c0, ntap = phase_taps(ph);
  char *table = j->workspace + worker * j->scratch, *rows_at = table + fc_round_up(fc_pixels_bytes(PIXELS), FC_ALIGN);
  char *sums = rows_at + fc_round_up(fc_pixels_rows_bytes(p, PIXELS, p->d.groups), FC_ALIGN);
  memset(sums, 0, (size_t)(ntap * j->piece_m * es));
  for (int64_t p0 = 0; p0 < ph->pixels; p0 += PIXELS) {
    const int64_t p1 = fc_min(ph->pixels, p0 + PIXELS);
    fc_pixels t;
    fc_rows rows;
    fc_pixels_decode(&t, p, ph, p0, p1, table, 0);
    t.src = j->first + c0 * es;
    fc_pixels_rows(&t, p1 - p0, channels, rows_at, &rows);
    const fc_depth depth = {.rows = &rows,
                            .ntap = ntap,
                            .channels = channels,
                            .wei = sums,
                            .wei_row = j->piece_m,
                            .out = (char *)j->second + c0 * es,
                            .out_at = t.out};
    p->kn->depth_weight(&depth);
  }
  const fc_epilogue plain = {1, 0, 0, 0, FC_ACT_NONE, 0, 0};
  for (int64_t tap = 0; tap < ntap; tap++) {
    const fc_block write = {.m = 1,
                            .n = channels,
                            .ep = &plain,
                            .first = 1,
                            .last = 1,
                            .out = {.p = j->result + (c0 * p->d.ws[0] + fc_tap_stride(&p->d, tap)) * es, .cs = p->d.ws[0]}};
    p->kn->write(sums + tap * j->piece_m * es, j->piece_m, &write);
  }
}

/* ---- */

static const char *shape(const fc_conv_plan *p) {
  if (p->d.icg != 1 || p->d.ocg != 1 || p->d.groups == 1) return "the layer is not depthwise";
  return p->ss[1] == 1 && p->ds[1] == 1 ? 0 : "the channels are not contiguous";
}

static const char *refuse(const fc_conv_plan *p) { return p->d.direction == FC_BWD_WEIGHT ? "" : shape(p); }

static const char *refuse_weight(const fc_conv_plan *p) { return p->d.direction == FC_BWD_WEIGHT ? shape(p) : ""; }

const fc_algorithm fc_conv_depthwise = {"depthwise_channels", refuse, prepare, packed_elements, pack, pieces, piece};
const fc_algorithm fc_conv_weight_depthwise = {"depthwise_channels", refuse_weight, 0, 0, 0, weight_pieces, weight_piece};
