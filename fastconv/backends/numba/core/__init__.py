"""What every operator stands on: vector code for this CPU, compilation, threads, activations, addresses."""
