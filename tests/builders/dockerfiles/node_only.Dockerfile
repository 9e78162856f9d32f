FROM node:20-alpine
RUN apk add --no-cache python3 py3-pip make g++
COPY package.json .
RUN npm install && npm cache clean --force
