/* Resizing: rows of the result are sums of rows, of which then each pixel is a sum of pixels. */
#include "resize.h"

/* Elements of the result below which a call runs on its caller alone, and those of a piece. */
#ifndef FC_SERIAL_RESIZE
#define FC_SERIAL_RESIZE (64 * 1024)
#endif
#define FC_PIECE_RESIZE (32 * 1024)

static int describe(fc_resize_plan *p, const fc_resize_desc *given) {
  if (!given) return FC_ERROR_ARGUMENT;
  const int known = fc_find_kernels(&p->kn, given->isa, &given->types);
  if (known) return known;
  fc_resize_desc d = *given;
  const int64_t x[5] = {d.n, d.c, d.x_size[0], d.x_size[1], d.x_size[2]};
  const int64_t y[5] = {d.n, d.c, d.y_size[0], d.y_size[1], d.y_size[2]};
  if (!fc_elements(x, 5) || !fc_elements(y, 5) || !fc_settle(d.x_stride, x, 5) || !fc_settle(d.y_stride, y, 5) ||
      !fc_apart(d.y_stride, y, 5))
    return FC_ERROR_ARGUMENT;
  p->d = d;
  p->es = fc_bytes(d.types.x);
  return fc_resize_tables(p);
}

/* Which lanes are neighbours. */
static int choose_lanes(fc_resize_plan *p) {
  const fc_resize_desc *d = &p->d;
  const int channels = d->c > 1 && d->x_stride[1] == 1 && d->y_stride[1] == 1;
  p->lanes_are = channels ? CHANNELS : ROWS;
  p->pixel = channels ? d->c : 1;
  /* Elements of lines, if the result's pixels adjoin and their channels do not fill a vector. */
  if ((d->y_stride[4] != p->pixel && d->y_size[2] > 1) || (channels && d->c >= p->kn->vl)) return FC_OK;
  int fits;
  const int status = fc_resize_line_up(p, &fits);
  if (fits) p->lanes_are = LINES;
  return status;
}

/* Who computes which part. */
static void arrange(fc_resize_plan *p) {
  const fc_resize_desc *d = &p->d;
  const int64_t vl = p->kn->vl, rows = d->n * d->y_size[0] * d->y_size[1];
  p->pitch = fc_round_up(fc_max(p->used, 1), vl);
  p->rows = p->lanes_are == CHANNELS ? rows : rows * (d->c / p->pixel);
  p->lanes = p->pixel;
  p->lane_blocks = 1;
  int64_t elements = 2 * (p->used * p->pixel + 2 * vl);
  if (p->lanes_are == CHANNELS) {
    p->lanes = fc_min(d->c, fc_max(1, BLOCK_BYTES / (p->pitch * p->es * vl)) * vl);
    p->lane_blocks = fc_div_up(d->c, p->lanes);
    elements = p->pitch * p->lanes;
  } else if (p->lanes_are == ROWS) {
    p->rows = fc_div_up(p->rows, vl);
    p->lanes = vl;
    elements = p->pitch * vl * 2 + BLOCK * vl;
  }
  p->rows_per_piece = fc_min(p->rows, fc_max(1, FC_PIECE_RESIZE / (p->lanes * p->blocks[0].count)));
  p->pieces = fc_div_up(p->rows, p->rows_per_piece) * p->lane_blocks * p->nblocks;
  p->listed = p->flat ? 0 : fc_max(p->row_taps, LISTED);
  p->list = fc_round_up(p->listed * 20 + 4, FC_ALIGN);
  p->scratch = p->list + fc_round_up(elements * p->es, FC_ALIGN);
}
static int64_t workspace(const fc_plan *plan, int nthreads, int packed) {
  (void)packed;
  return nthreads * ((const fc_resize_plan *)plan)->scratch + FC_ALIGN;
}

static void destroy(fc_plan *plan) {
  fc_resize_plan *p = (fc_resize_plan *)plan;
  fc_resize_forget(p);
  free(p);
}

static const fc_operator resize = {.destroy = destroy, .run = fc_resize_run, .workspace = workspace};

int fc_plan_resize(const fc_resize_desc *d, fc_plan **plan) {
  if (!plan) return FC_ERROR_ARGUMENT;
  *plan = 0;
  fc_resize_plan *p = calloc(1, sizeof *p);
  if (!p) return FC_ERROR_MEMORY;
  int status = describe(p, d);
  if (!status) status = choose_lanes(p);
  if (status) {
    destroy(&p->head);
    return status;
  }
  arrange(p);
  static const char *const names[] = {[CHANNELS] = "channels", [LINES] = "lines", [ROWS] = "rows"};
  const int64_t y = d->n * d->c * d->y_size[0] * d->y_size[1] * d->y_size[2];
  p->head = (fc_plan){
      .does = &resize, .algorithm = names[p->lanes_are], .needs = FC_BIT(FC_X) | FC_BIT(FC_Y), .serial = y < FC_SERIAL_RESIZE};
  *plan = &p->head;
  return FC_OK;
}