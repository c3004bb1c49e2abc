#!/bin/sh
# Makes an authority and a certificate for each of three nodes, in the folder `certificates` below the current one.
# For real use put the names and addresses of your hosts in `names`, and keep ca.key somewhere else.
set -eu
umask 077
mkdir -p certificates
cd certificates

# A key and a certificate that signs others.
openssl req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
  -keyout ca.key -out ca.pem -days 3650 -subj "/CN=Example cluster authority" \
  -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign"

for node in 1 2 3; do
  # Every name and address by which others dial this node: its own name, the name that stands for all nodes, and, to
  # try it out on one machine, that machine.
  names="DNS:node-$node.example.net,DNS:cluster.example.net,DNS:localhost,IP:127.0.0.1"

  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -keyout "node-$node.key" -out "node-$node.csr" -subj "/CN=node-$node.example.net"

  # A node shows the same certificate when it is dialled (serverAuth) and when it dials (clientAuth).
  cat > "node-$node.ext" <<EXT
subjectAltName = $names
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth,clientAuth
EXT
  openssl x509 -req -in "node-$node.csr" -CA ca.pem -CAkey ca.key -CAcreateserial \
    -out "node-$node.pem" -days 397 -extfile "node-$node.ext"
  rm "node-$node.csr" "node-$node.ext"
done

openssl verify -CAfile ca.pem node-1.pem node-2.pem node-3.pem
