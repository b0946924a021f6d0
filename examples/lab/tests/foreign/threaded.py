"""The tutorial's threaded server in Python 3: `threaded.py PORT`."""
import socket
import sys
from _thread import start_new_thread

HOST = ''
PORT = int(sys.argv[1])

s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
print('Socket created')

try:
    s.bind((HOST, PORT))
except OSError as error:
    print(f'Bind failed. Error Code : {error.errno} Message {error.strerror}')
    sys.exit()
print('Socket bind complete')

s.listen(10)
print('Socket now listening')


def clientthread(conn):
    conn.send(b'Welcome to the server. Type something and hit enter\n')
    while True:
        data = conn.recv(1024)
        if not data:
            break
        conn.sendall(b'OK...' + data)
    conn.close()


while True:
    conn, addr = s.accept()
    print('Connected with ' + addr[0] + ':' + str(addr[1]))
    start_new_thread(clientthread, (conn,))
