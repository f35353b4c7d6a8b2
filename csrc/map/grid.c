#include "map/grid.h"

/* Elements of a piece. */
#define FC_PIECE_MAP (32 * 1024)

static int64_t distance(int64_t stride) { return stride < 0 ? -stride : stride; }

/* Whether this dimension and the one before it are one. */
static void add_dimension(fc_grid *g, int64_t size, const int64_t stride[FC_GRID_ARRAYS]) {
  const int last = g->rank - 1;
  int adjoins = last >= 0;
  for (int k = 0; k < g->arrays && adjoins; k++) adjoins = g->stride[k][last] == stride[k] * size;
  if (adjoins)
    g->size[last] *= size;
  else
    g->size[g->rank++] = size;
  for (int k = 0; k < g->arrays; k++) g->stride[k][g->rank - 1] = stride[k];
}

fc_grid fc_grid_of(int rank, const int64_t *size, int arrays, const int64_t *const *stride) {
  fc_grid g = {.arrays = arrays};
  int order[FC_GRID_RANK], kept = 0;
  for (int i = 0; i < rank; i++) {
    if (size[i] == 1) continue;
    int at = kept++;
    for (; at > 0 && distance(stride[0][order[at - 1]]) < distance(stride[0][i]); at--) order[at] = order[at - 1];
    order[at] = i;
  }
  for (int i = 0; i < kept; i++) {
    int64_t steps[FC_GRID_ARRAYS] = {0};
    for (int k = 0; k < arrays; k++) steps[k] = stride[k][order[i]];
    add_dimension(&g, size[order[i]], steps);
  }
  static const int64_t still[FC_GRID_ARRAYS] = {0};
  if (g.rank < 1) add_dimension(&g, 1, still);
  /* Rows and what is in them are the last two dimensions; of a single one, parts are rows. */
  const int64_t count = g.size[g.rank - 1], rows = g.rank > 1 ? g.size[g.rank - 2] : 1;
  int64_t outer = 1;
  for (int i = 0; i < g.rank - 2; i++) outer *= g.size[i];
  g.piece_count = fc_min(count, FC_PIECE_MAP);
  g.piece_rows = fc_min(rows, fc_max(1, FC_PIECE_MAP / count));
  g.pieces_of_count = fc_div_up(count, g.piece_count);
  g.pieces_of_rows = fc_div_up(rows, g.piece_rows);
  g.pieces = outer * g.pieces_of_rows * g.pieces_of_count;
  return g;
}

fc_part fc_part_of(const fc_grid *g, int64_t index) {
  const int columns = g->rank - 1, lines = g->rank - 2;
  fc_part p;
  const int64_t count0 = index % g->pieces_of_count * g->piece_count;
  index /= g->pieces_of_count;
  const int64_t row0 = index % g->pieces_of_rows * g->piece_rows;
  index /= g->pieces_of_rows;
  p.count = fc_min(g->piece_count, g->size[columns] - count0);
  p.rows = lines < 0 ? 1 : fc_min(g->piece_rows, g->size[lines] - row0);
  for (int k = 0; k < g->arrays; k++) {
    p.step[k] = g->stride[k][columns];
    p.row[k] = lines < 0 ? 0 : g->stride[k][lines];
    p.at[k] = count0 * p.step[k] + row0 * p.row[k];
    int64_t rest = index;
    for (int i = lines - 1; i >= 0; rest /= g->size[i], i--) p.at[k] += rest % g->size[i] * g->stride[k][i];
  }
  return p;
}
