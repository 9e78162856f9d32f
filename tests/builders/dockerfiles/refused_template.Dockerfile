FROM {{ base_image }}
RUN pip install flask
