FROM condaforge/miniforge3
RUN mamba install -y -c conda-forge numpy && mamba clean -a
