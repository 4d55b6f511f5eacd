// SPDX-License-Identifier: Apache-2.0
// mbserver: single-threaded epoll Modbus/TCP server (test tool).
// Build: gcc -O2 -Wall -Wextra -o mbserver mbserver.c
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAXADU 260
#define RBUF (256 * 1024)
#define OUTCAP (256 * 1024)

typedef struct conn {
  int fd;
  uint32_t gen;
  uint32_t id;           // accept ordinal, for the log
  uint32_t nreq;
  uint16_t inlen;        // partial frame
  uint8_t closing, want_out, paused;
  uint8_t in[MAXADU];
  uint8_t *out;          // pending output (malloc'd on demand)
  size_t outlen, outoff, outcap;
} conn;

typedef struct delayed {
  struct delayed *next;
  uint64_t due;
  int fd;
  uint32_t gen;
  uint16_t len;
  uint8_t b[];
} delayed;

static conn **conns; static int nconns_cap;
static uint32_t gen_ctr, accept_ctr;
static uint16_t regs[65536];
static uint8_t bits[65536];
static int ep, lfd;
static volatile sig_atomic_t want_stop, want_dump;
static delayed *dq_head, *dq_tail;

static struct {
  uint64_t accepted, closed, reset, open, max_open, requests, exceptions, malformed, bytes_in, bytes_out, muted, reads, writes_sys;
  uint64_t fc[256];
} st;

static struct {
  const char *listen; int backlog; long delay_us; int chunk; uint64_t close_after; uint64_t mute_every;
  const char *log; int cpu; int quiet; int max_batch;
} opt = { "127.0.0.1:15020", 4096, 0, 0, 0, 0, NULL, -1, 0, 0 };
static FILE *logf;

static uint64_t now_ns(void){ struct timespec t; clock_gettime(CLOCK_MONOTONIC,&t); return (uint64_t)t.tv_sec*1000000000ull+t.tv_nsec; }
static inline uint16_t rd16(const uint8_t*p){ return (uint16_t)(p[0]<<8|p[1]); }
static inline void wr16(uint8_t*p,uint16_t v){ p[0]=v>>8; p[1]=(uint8_t)v; }

static void usage(FILE *f){
  fputs(
"mbserver - epoll Modbus/TCP server for load and acceptance tests\n"
"usage: mbserver [options]\n"
"  --listen HOST:PORT   address (default 127.0.0.1:15020; [::1]:PORT for IPv6)\n"
"  --backlog N          listen backlog (4096)\n"
"  --cpu N              pin to CPU N\n"
"  --delay-us N         delay every response by N microseconds (0)\n"
"  --chunk N            never write more than N bytes per send() (0 = no limit)\n"
"  --close-after N      close a connection after its N-th request (0 = never)\n"
"  --mute-every N       never answer every N-th request of a connection (0 = never)\n"
"  --log FILE           append 'conn-ordinal hex-adu' for every request received\n"
"  --quiet              no 'listening' line on stdout\n"
"  --help\n"
"Behaviour: answers any unit id. FC 1,2,3,4,5,6,15,16,22,23; others -> exception 1.\n"
"  65536 holding registers shared by all units; initial value of register a is\n"
"  (a*40503+31153) mod 65536 (mbload --check-values knows it); input registers are the same\n"
"  array; bit a starts as a%3==0. Writes are stored. Bad quantity -> exception 3, range -> 2.\n"
"  Protocol id != 0 or MBAP length outside 2..254 -> counted malformed, connection closed.\n"
"Signals: SIGUSR1 prints a JSON statistics line; SIGTERM/SIGINT prints it and exits 0.\n", f);
}

// returns response length in r (full ADU), 0 = no response
static int answer(const uint8_t *q, int qlen, uint8_t *r){
  uint8_t fc=q[7]; int pl=qlen-8; const uint8_t*p=q+8; int ex=0, n=0; uint8_t*d=r+8;
  st.fc[fc]++;
  switch(fc){
  case 1: case 2: {
    if(pl!=4){ex=3;break;} unsigned a=rd16(p),c=rd16(p+2);
    if(c<1||c>2000){ex=3;break;} if(a+c>65536){ex=2;break;}
    int nb=(c+7)/8; d[0]=nb; memset(d+1,0,nb); for(unsigned i=0;i<c;i++) if(bits[a+i]) d[1+i/8]|=1<<(i&7);
    n=1+nb; break; }
  case 3: case 4: {
    if(pl!=4){ex=3;break;} unsigned a=rd16(p),c=rd16(p+2);
    if(c<1||c>125){ex=3;break;} if(a+c>65536){ex=2;break;}
    d[0]=c*2; for(unsigned i=0;i<c;i++) wr16(d+1+2*i,regs[a+i]);
    n=1+2*c; break; }
  case 5: { if(pl!=4){ex=3;break;} unsigned a=rd16(p),v=rd16(p+2); if(v!=0&&v!=0xff00){ex=3;break;} bits[a]=v!=0; memcpy(d,p,4); n=4; break; }
  case 6: { if(pl!=4){ex=3;break;} unsigned a=rd16(p); regs[a]=rd16(p+2); memcpy(d,p,4); n=4; break; }
  case 15: {
    if(pl<6){ex=3;break;} unsigned a=rd16(p),c=rd16(p+2); if(c<1||c>1968||p[4]!=(c+7)/8||pl!=5+p[4]){ex=3;break;} if(a+c>65536){ex=2;break;}
    for(unsigned i=0;i<c;i++) bits[a+i]=(p[5+i/8]>>(i&7))&1;
    memcpy(d,p,4); n=4; break; }
  case 16: {
    if(pl<7){ex=3;break;} unsigned a=rd16(p),c=rd16(p+2); if(c<1||c>123||p[4]!=c*2||pl!=5+p[4]){ex=3;break;} if(a+c>65536){ex=2;break;}
    for(unsigned i=0;i<c;i++) regs[a+i]=rd16(p+5+2*i);
    memcpy(d,p,4); n=4; break; }
  case 22: { if(pl!=6){ex=3;break;} unsigned a=rd16(p),am=rd16(p+2),om=rd16(p+4); regs[a]=(regs[a]&am)|(om&~am); memcpy(d,p,6); n=6; break; }
  case 23: {
    if(pl<11){ex=3;break;} unsigned ra=rd16(p),rc=rd16(p+2),wa=rd16(p+4),wc=rd16(p+6);
    if(rc<1||rc>125||wc<1||wc>121||p[8]!=wc*2||pl!=9+p[8]){ex=3;break;} if(ra+rc>65536||wa+wc>65536){ex=2;break;}
    for(unsigned i=0;i<wc;i++) regs[wa+i]=rd16(p+9+2*i);
    d[0]=rc*2; for(unsigned i=0;i<rc;i++) wr16(d+1+2*i,regs[ra+i]); n=1+2*rc; break; }
  default: ex=1;
  }
  memcpy(r,q,4); r[6]=q[6];
  if(ex){ r[7]=fc|0x80; d[0]=ex; n=1; st.exceptions++; } else r[7]=fc;
  wr16(r+4,2+n);
  return 8+n;
}

static void conn_close(conn*c){
  if(c->fd<0) return;
  int fd=c->fd; conns[fd]=NULL; close(fd); st.open--; st.closed++;
  free(c->out); free(c);
}
static void upd(conn*c){
  struct epoll_event e={ .events=(c->paused?0:EPOLLIN|EPOLLRDHUP)|(c->want_out?EPOLLOUT:0), .data.u64=((uint64_t)c->gen<<32)|(uint32_t)c->fd };
  epoll_ctl(ep,EPOLL_CTL_MOD,c->fd,&e);
}
static ssize_t do_send(int fd,const uint8_t*b,size_t n){
  size_t done=0;
  while(done<n){
    size_t k=n-done; if(opt.chunk&&k>(size_t)opt.chunk) k=opt.chunk;
    ssize_t w=send(fd,b+done,k,MSG_NOSIGNAL); st.writes_sys++;
    if(w<0){ if(errno==EINTR) continue; if(errno==EAGAIN) break; return -1; }
    done+=w; st.bytes_out+=w;
  }
  return done;
}
// returns 0 ok, -1 dead (closed)
static int conn_out(conn*c,const uint8_t*b,size_t n){
  if(c->outlen==c->outoff){
    ssize_t w=do_send(c->fd,b,n); if(w<0){ st.reset++; conn_close(c); return -1; }
    b+=w; n-=w; if(!n) return 0;
    c->outlen=c->outoff=0;
  }
  if(c->outlen+n>c->outcap){ c->outcap=(c->outlen+n)*2; c->out=realloc(c->out,c->outcap); if(!c->out) abort(); }
  memcpy(c->out+c->outlen,b,n); c->outlen+=n;
  c->want_out=1; if(c->outlen-c->outoff>OUTCAP) c->paused=1;
  upd(c); return 0;
}
static int conn_flush(conn*c){
  ssize_t w=do_send(c->fd,c->out+c->outoff,c->outlen-c->outoff);
  if(w<0){ st.reset++; conn_close(c); return -1; }
  c->outoff+=w;
  if(c->outoff==c->outlen){ c->outoff=c->outlen=0; c->want_out=0; c->paused=0; upd(c); if(c->closing){ conn_close(c); return -1; } }
  return 0;
}

static uint8_t rbuf[RBUF+MAXADU], obuf[RBUF*2];

static void on_read(conn*c){
  memcpy(rbuf,c->in,c->inlen);
  ssize_t n=recv(c->fd,rbuf+c->inlen,RBUF/16,0); st.reads++;
  if(n<0){ if(errno==EAGAIN||errno==EINTR) return; st.reset++; conn_close(c); return; }
  if(n==0){ conn_close(c); return; }
  st.bytes_in+=n;
  size_t len=c->inlen+n, off=0, o=0; int bad=0, closeit=0;
  while(len-off>=8){
    const uint8_t*q=rbuf+off; unsigned L=rd16(q+4);
    if(rd16(q+2)!=0||L<2||L>254){ bad=1; break; }
    if(len-off<6+L) break;
    st.requests++; c->nreq++;
    if(logf){ fprintf(logf,"%u ",c->id); for(unsigned i=0;i<6+L;i++) fprintf(logf,"%02x",q[i]); fputc('\n',logf); }
    if(opt.mute_every&&c->nreq%opt.mute_every==0) st.muted++;
    else if(opt.delay_us){
      delayed*d=malloc(sizeof*d+MAXADU); if(!d) abort();
      d->len=answer(q,6+L,d->b); d->due=now_ns()+opt.delay_us*1000ull; d->fd=c->fd; d->gen=c->gen; d->next=NULL;
      if(dq_tail) dq_tail->next=d; else dq_head=d; dq_tail=d;
    } else {
      if(o+MAXADU>sizeof obuf){ if(conn_out(c,obuf,o)) return; o=0; }
      o+=answer(q,6+L,obuf+o);
    }
    off+=6+L;
    if(opt.close_after&&c->nreq>=opt.close_after){ closeit=1; break; }
  }
  if(o){ if(conn_out(c,obuf,o)) return; }
  if(bad){ st.malformed++; conn_close(c); return; }
  if(closeit){ if(c->want_out) c->closing=1; else conn_close(c); return; }
  c->inlen=len-off; if(c->inlen>MAXADU) abort(); memcpy(c->in,rbuf+off,c->inlen);
}

static void dump(void){
  struct rusage ru; getrusage(RUSAGE_SELF,&ru);
  printf("{\"tool\":\"mbserver\",\"accepted\":%"PRIu64",\"open\":%"PRIu64",\"max_open\":%"PRIu64",\"closed\":%"PRIu64",\"reset\":%"PRIu64",\"requests\":%"PRIu64",\"exceptions\":%"PRIu64",\"malformed\":%"PRIu64",\"muted\":%"PRIu64",\"bytes_in\":%"PRIu64",\"bytes_out\":%"PRIu64",\"reads\":%"PRIu64",\"writes\":%"PRIu64",\"cpu_us\":%ld,\"fc\":{",
    st.accepted,st.open,st.max_open,st.closed,st.reset,st.requests,st.exceptions,st.malformed,st.muted,st.bytes_in,st.bytes_out,st.reads,st.writes_sys,
    (ru.ru_utime.tv_sec+ru.ru_stime.tv_sec)*1000000L+ru.ru_utime.tv_usec+ru.ru_stime.tv_usec);
  int first=1; for(int i=0;i<256;i++) if(st.fc[i]){ printf("%s\"%d\":%"PRIu64,first?"":",",i,st.fc[i]); first=0; }
  printf("}}\n"); fflush(stdout); if(logf) fflush(logf);
}
static void on_sig(int s){ if(s==SIGUSR1) want_dump=1; else want_stop=1; }

static int parse_addr(const char*s,struct sockaddr_storage*ss,socklen_t*sl,int passive){
  char h[256]; const char*c=strrchr(s,':'); if(!c||(size_t)(c-s)>=sizeof h) return -1;
  memcpy(h,s,c-s); h[c-s]=0; char*hp=h; if(*hp=='['){ hp++; char*e=strchr(hp,']'); if(e)*e=0; }
  struct addrinfo hi={.ai_socktype=SOCK_STREAM,.ai_flags=passive?AI_PASSIVE:0},*r;
  if(getaddrinfo(*hp?hp:NULL,c+1,&hi,&r)) return -1;
  memcpy(ss,r->ai_addr,r->ai_addrlen); *sl=r->ai_addrlen; freeaddrinfo(r); return 0;
}

int main(int argc,char**argv){
  static struct option lo[]={ {"listen",1,0,'l'},{"backlog",1,0,'b'},{"cpu",1,0,'c'},{"delay-us",1,0,'d'},{"chunk",1,0,'k'},{"close-after",1,0,'x'},{"mute-every",1,0,'m'},{"log",1,0,'o'},{"quiet",0,0,'q'},{"help",0,0,'h'},{0,0,0,0}};
  int ch; while((ch=getopt_long(argc,argv,"h",lo,NULL))!=-1) switch(ch){
    case 'l':opt.listen=optarg;break; case 'b':opt.backlog=atoi(optarg);break; case 'c':opt.cpu=atoi(optarg);break; case 'd':opt.delay_us=atol(optarg);break;
    case 'k':opt.chunk=atoi(optarg);break; case 'x':opt.close_after=strtoull(optarg,0,10);break; case 'm':opt.mute_every=strtoull(optarg,0,10);break;
    case 'o':opt.log=optarg;break; case 'q':opt.quiet=1;break; case 'h':usage(stdout);return 0; default:usage(stderr);return 2; }
  if(optind!=argc){ usage(stderr); return 2; }
  struct rlimit rl; getrlimit(RLIMIT_NOFILE,&rl); if(rl.rlim_max<200000){ struct rlimit r2={200000,200000}; if(setrlimit(RLIMIT_NOFILE,&r2)==0) rl=r2; } rl.rlim_cur=rl.rlim_max; setrlimit(RLIMIT_NOFILE,&rl); getrlimit(RLIMIT_NOFILE,&rl);
  nconns_cap=rl.rlim_cur>1000000?1000000:(int)rl.rlim_cur; conns=calloc(nconns_cap,sizeof*conns);
  if(opt.cpu>=0){ cpu_set_t s; CPU_ZERO(&s); CPU_SET(opt.cpu,&s); sched_setaffinity(0,sizeof s,&s); }
  prctl(PR_SET_TIMERSLACK,1000);
  if(opt.log){ logf=fopen(opt.log,"a"); if(!logf){ perror(opt.log); return 2; } }
  for(int i=0;i<65536;i++){ regs[i]=(uint16_t)(i*40503u+31153u); bits[i]=i%3==0; }
  struct sigaction sa={.sa_handler=on_sig}; sigaction(SIGINT,&sa,0); sigaction(SIGTERM,&sa,0); sigaction(SIGUSR1,&sa,0); signal(SIGPIPE,SIG_IGN);
  struct sockaddr_storage ss; socklen_t sl; if(parse_addr(opt.listen,&ss,&sl,1)){ fprintf(stderr,"bad --listen\n"); return 2; }
  lfd=socket(ss.ss_family,SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC,0); int one=1; setsockopt(lfd,SOL_SOCKET,SO_REUSEADDR,&one,sizeof one);
  if(bind(lfd,(void*)&ss,sl)||listen(lfd,opt.backlog)){ perror("bind/listen"); return 2; }
  ep=epoll_create1(EPOLL_CLOEXEC); struct epoll_event e={.events=EPOLLIN,.data.u64=UINT64_MAX}; epoll_ctl(ep,EPOLL_CTL_ADD,lfd,&e);
  sl=sizeof ss; getsockname(lfd,(void*)&ss,&sl);
  int port=ntohs(ss.ss_family==AF_INET6?((struct sockaddr_in6*)&ss)->sin6_port:((struct sockaddr_in*)&ss)->sin_port);
  if(!opt.quiet){ printf("{\"tool\":\"mbserver\",\"event\":\"listening\",\"port\":%d,\"pid\":%d}\n",port,getpid()); fflush(stdout); }
  struct epoll_event ev[512];
  while(!want_stop){
    if(want_dump){ want_dump=0; dump(); }
    struct timespec ts,*tp=NULL;
    if(dq_head){ uint64_t n=now_ns(); uint64_t w=dq_head->due>n?dq_head->due-n:0; ts.tv_sec=w/1000000000; ts.tv_nsec=w%1000000000; tp=&ts; }
    int n=epoll_pwait2(ep,ev,512,tp,NULL);
    if(n<0){ if(errno==EINTR) continue; perror("epoll"); return 1; }
    for(int i=0;i<n;i++){
      if(ev[i].data.u64==UINT64_MAX){
        for(int k=0;k<256;k++){
          int fd=accept4(lfd,NULL,NULL,SOCK_NONBLOCK|SOCK_CLOEXEC); if(fd<0) break;
          if(fd>=nconns_cap){ close(fd); continue; }
          setsockopt(fd,IPPROTO_TCP,TCP_NODELAY,&one,sizeof one);
          conn*c=calloc(1,sizeof*c); if(!c) abort();
          c->fd=fd; c->gen=++gen_ctr; c->id=++accept_ctr; conns[fd]=c; st.accepted++; st.open++; if(st.open>st.max_open) st.max_open=st.open;
          struct epoll_event ce={.events=EPOLLIN|EPOLLRDHUP,.data.u64=((uint64_t)c->gen<<32)|(uint32_t)fd}; epoll_ctl(ep,EPOLL_CTL_ADD,fd,&ce);
        }
        continue;
      }
      int fd=(uint32_t)ev[i].data.u64; uint32_t g=ev[i].data.u64>>32; conn*c=conns[fd]; if(!c||c->gen!=g) continue;
      if(ev[i].events&EPOLLOUT){ if(conn_flush(c)) continue; }
      if(c->closing) { if(ev[i].events&(EPOLLHUP|EPOLLERR)) conn_close(c); continue; }
      if(ev[i].events&(EPOLLIN|EPOLLHUP|EPOLLERR|EPOLLRDHUP)) on_read(c);
    }
    if(dq_head){ uint64_t t=now_ns(); while(dq_head&&dq_head->due<=t){ delayed*d=dq_head; dq_head=d->next; if(!dq_head) dq_tail=NULL; conn*c=conns[d->fd]; if(c&&c->gen==d->gen&&!c->closing) conn_out(c,d->b,d->len); free(d); } }
  }
  dump(); return 0;
}
