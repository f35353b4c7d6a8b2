/* Every instruction set, best first: FC_ISA(name). One file of this name beside this one defines it. */
#if defined(__x86_64__)
FC_ISA(avx512)
FC_ISA(avx2)
#endif
#if defined(__aarch64__)
FC_ISA(neon)
#endif
FC_ISA(scalar)
