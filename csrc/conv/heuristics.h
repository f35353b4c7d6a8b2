/* The numbers of fastconv/backends/heuristics.def, as FC_CHOOSE_<name>. */
#ifndef FC_HEURISTICS_H
#define FC_HEURISTICS_H

enum {
#define FC_HEURISTIC(name, value) FC_CHOOSE_##name = value,
#include "../../fastconv/backends/heuristics.def"
#undef FC_HEURISTIC
};

#endif
