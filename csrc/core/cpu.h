/* Why this CPU cannot run an instruction set; NULL where it can. */
#ifndef FC_CPU_H
#define FC_CPU_H
#define FC_ISA(name) const char *fc_cpu_reason_##name(void);
#include "isa/list.h"
#undef FC_ISA
#endif
