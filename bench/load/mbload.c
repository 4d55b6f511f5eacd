// SPDX-License-Identifier: Apache-2.0
// mbload: epoll Modbus/TCP load generator and response validator (test tool).
// Build: gcc -O2 -Wall -Wextra -o mbload mbload.c
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
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
#include <time.h>
#include <unistd.h>

#define MAXADU 260
#define RB (64 * 1024)
enum { S_FREE, S_OUT, S_EXPIRED };
typedef struct slot { uint64_t t_int, t_send; uint16_t tid, addr, val; uint8_t st, kind; } slot; // kind 0 read 1 write
typedef struct conn {
  int fd, idx; uint8_t state; // 0 idle/closed 1 connecting 2 up
  uint8_t unit, want_out;
  uint16_t tid, oldest;      // next tid; oldest possibly outstanding tid
  uint32_t inflight;
  uint32_t gen;
  uint64_t sent, answered;   // requests
  uint64_t sched_k;          // open loop: next request ordinal of this connection
  uint64_t due;              // open loop: number due (ordinals < due may be sent)
  uint64_t t_conn;
  uint16_t inlen; uint8_t in[MAXADU];
  uint8_t *out; size_t outlen, outoff, outcap;
  slot *slots;
} conn;

// ---------- histogram: log-linear, 128 sub-buckets per octave, rel. error < 0.8 %
#define HB (64*128)
typedef struct { uint64_t n, max, min; double sum; uint64_t b[HB]; } hist;
static inline unsigned hidx(uint64_t v){ if(v<256) return v; unsigned s=63-__builtin_clzll(v)-7; return s*128+(unsigned)(v>>s); }
static inline uint64_t hval(unsigned i){ if(i<256) return i; unsigned s=i/128-1; return ((uint64_t)(i-s*128)<<s)+((1ull<<s)>>1); }
static inline void hadd(hist*h,uint64_t v){ h->n++; h->sum+=v; if(v>h->max) h->max=v; if(!h->min||v<h->min) h->min=v; h->b[hidx(v)]++; }
static double hq(hist*h,double q){ if(!h->n) return 0; uint64_t t=(uint64_t)(q*h->n+0.5); if(t<1)t=1; if(t>h->n)t=h->n; uint64_t a=0; for(unsigned i=0;i<HB;i++){ a+=h->b[i]; if(a>=t){ uint64_t v=hval(i); return (v>h->max?h->max:v)/1000.0; } } return h->max/1000.0; }
static hist H, HS; // corrected (or plain) / from actual send

static struct {
  const char *target, *src, *units, *hist_out, *label; int conns, pipeline; double duration, warmup, rate, hold, timeout_ms, connect_timeout_ms, ramp;
  uint64_t count, per_conn; int read_fc, read_addr, read_qty, read_span, write_fc, write_addr, write_qty, write_span; double write_pct;
  int check_values, reconnect, strict_order, frag, cpu, spin, rst_close, tol, pids[32], npids, expect_exc_read, expect_exc_write, rcvbuf; uint64_t seed; int prime;
} o = { .target="127.0.0.1:15020", .conns=1, .pipeline=1, .duration=0, .warmup=0.5, .timeout_ms=5000, .connect_timeout_ms=5000, .read_fc=3,.read_addr=0,.read_qty=10,.read_span=1,.write_fc=6,.write_addr=50000,.write_qty=2,.write_span=1,.units="1",.cpu=-1,.seed=1,.expect_exc_read=0,.expect_exc_write=0 };

static struct { uint64_t ok_r, ok_w, exc_r, exc_w, exc_code[256], unexpected, bad_frame, bad_tid, bad_unit, bad_fc, bad_len, bad_value, reorder, resets, eofs, timeouts, late, connect_err, connect_timeout, reconnects, lost, bytes_in, bytes_out, reads, writes, sent; } s;
static uint64_t meas_ok, meas_all;
static conn *C; static int ep; static unsigned mask, nslots;
static uint64_t t0, t_measure, t_end, sched_cursor, total_sent, now_c; static int measuring, stopping, n_up, priming;
static uint8_t units[256]; static int nunits;
static struct sockaddr_storage dst; static socklen_t dstl; static struct sockaddr_storage srcs[64]; static int nsrcs;
static volatile sig_atomic_t sigstop;
static uint64_t rng;
static const char *first_err; static char first_err_buf[256];

static uint64_t now_ns(void){ struct timespec t; clock_gettime(CLOCK_MONOTONIC,&t); return (uint64_t)t.tv_sec*1000000000ull+t.tv_nsec; }
static inline uint16_t rd16(const uint8_t*p){ return (uint16_t)(p[0]<<8|p[1]); }
static inline void wr16(uint8_t*p,uint16_t v){ p[0]=v>>8; p[1]=(uint8_t)v; }
static inline uint16_t regval(uint16_t a){ return (uint16_t)(a*40503u+31153u); }
static inline uint64_t rnd(void){ rng^=rng<<13; rng^=rng>>7; rng^=rng<<17; return rng; }
static void err1(const char*what,const uint8_t*f,unsigned n){ if(first_err) return; int k=snprintf(first_err_buf,sizeof first_err_buf,"%s",what); for(unsigned i=0;f&&i<n&&i<24&&k<200;i++) k+=snprintf(first_err_buf+k,sizeof first_err_buf-k,"%s%02x",i?"":" frame=",f[i]); first_err=first_err_buf; }

static void usage(FILE*f){ fputs(
"mbload - Modbus/TCP load generator; validates every response; prints one JSON line\n"
"usage: mbload [options]\n"
" load\n"
"  --target HOST:PORT      (127.0.0.1:15020)      --connections C  (1)   --pipeline P  (1, 1..4096)\n"
"  --duration S            measured seconds after warmup (if neither this nor --count: 5)\n"
"  --count N               stop after N requests in all    --per-conn-count N  requests per connection\n"
"  --warmup S              unmeasured seconds first (0.5; forced 0 with --count/--per-conn-count)\n"
"  --rate R                open loop: R requests/s in all, round-robin over connections on a fixed\n"
"                          schedule; latency is measured from the scheduled time (coordinated\n"
"                          omission corrected); also reports service latency from the actual send\n"
"  --spin                  busy-poll between scheduled sends (most exact pacing; burns the CPU)\n"
"  --hold S                after the last response keep connections open S seconds (memory sampling)\n"
"  --prime                 first one request per connection, and wait for all answers, then warmup:\n"
"                          takes the accept phase out of the measurement (prime_s in the JSON). Use it\n"
"                          for C >= 100: libuv and nginx accept one connection per loop turn\n"
"  --ramp N                at most N connections in the connecting state at once (256)\n"
" requests\n"
"  --units LIST            unit ids, e.g. 1 or 1-8 or 1,5,9; connection i uses unit i mod n  (1)\n"
"  --read-fc 1|2|3|4 (3)   --read-addr A (0)  --read-qty N (10)  --read-span K (1: vary A..A+K-1)\n"
"  --write-pct X (0)       percent of requests that are writes (random, --seed)\n"
"  --write-fc 5|6|15|16 (6)   --write-addr A (50000)  --write-qty N (2)  --write-span K (1)\n"
"  --seed N (1)            --frag N   never send() more than N bytes at once (torn frames)\n"
" validation: transaction id, protocol id, length, unit, function code, byte count, write echo\n"
"  --check-values          register values must be those of mbserver's initial pattern\n"
"  --strict-order          a response out of request order is an error (else counted 'reorder')\n"
"  --expect-read-exc N, --expect-write-exc N   every read/write must get exception N (0: must succeed,\n"
"                          -1: either; default 0); anything else counts 'unexpected'\n"
"  --timeout-ms N (5000)   --connect-timeout-ms N (5000)   --reconnect   reopen lost connections\n"
" environment\n"
"  --src LIST              local source addresses, round-robin   --cpu N   pin to CPU N\n"
"  --rst-close             close with RST (no TIME_WAIT)         --rcvbuf N\n"
"  --proc-pid PID          (repeatable) report CPU of that process over the measured window and its RSS\n"
"  --label TEXT            copied to the JSON    --hist-out FILE  write 'latency_us count' lines\n"
"  --tolerate N            exit 0 with up to N errors (0)\n"
"JSON: tps (responses in the measured window / its length), ok_read ok_write exc_read exc_write exc_codes,\n"
"  errors{...}, resets, eofs, timeouts, lat_us{p50 p90 p99 p999 p9999 max mean} and svc_us (open loop),\n"
"  proc{cpu_us_per_tx, user_pct, rss_kb, hwm_kb}. Units: microseconds. errors_total = all of unexpected,\n"
"  bad_*, resets, eofs, timeouts, connect errors, lost.\n"
"exit: 0 all valid and > 0 transactions; 1 otherwise; 2 usage\n",f); }

// ---------- process accounting
static uint64_t proc_cpu_ns(int pid){ char p[320]; snprintf(p,sizeof p,"/proc/%d/task",pid); DIR*d=opendir(p); if(!d) return 0; uint64_t tot=0; struct dirent*e;
  while((e=readdir(d))){ if(e->d_name[0]=='.') continue; snprintf(p,sizeof p,"/proc/%d/task/%s/schedstat",pid,e->d_name); FILE*f=fopen(p,"r"); if(!f) continue; uint64_t v; if(fscanf(f,"%"SCNu64,&v)==1) tot+=v; fclose(f);} closedir(d); return tot; }
static void proc_us(int pid,uint64_t*u,uint64_t*sy){ char p[64],b[1024]; snprintf(p,sizeof p,"/proc/%d/stat",pid); FILE*f=fopen(p,"r"); *u=*sy=0; if(!f) return; size_t n=fread(b,1,sizeof b-1,f); b[n]=0; fclose(f); char*q=strrchr(b,')'); if(!q) return; unsigned long a,c; if(sscanf(q+2,"%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",&a,&c)==2){ long hz=sysconf(_SC_CLK_TCK); *u=a*1000000ull/hz; *sy=c*1000000ull/hz; } }
static long proc_kb(int pid,const char*key){ char p[64],l[256]; snprintf(p,sizeof p,"/proc/%d/status",pid); FILE*f=fopen(p,"r"); long v=0; if(!f) return 0; size_t kl=strlen(key); while(fgets(l,sizeof l,f)) if(!strncmp(l,key,kl)){ v=atol(l+kl+1); break; } fclose(f); return v; }
static struct { uint64_t cpu,u,sy; } P0,P1;
static void proc_sample(typeof(P0)*x){ memset(x,0,sizeof *x); for(int i=0;i<o.npids;i++){ uint64_t u,sy; x->cpu+=proc_cpu_ns(o.pids[i]); proc_us(o.pids[i],&u,&sy); x->u+=u; x->sy+=sy; } }

static void upd(conn*c,int op){ struct epoll_event e={.events=EPOLLIN|EPOLLRDHUP|(c->want_out?EPOLLOUT:0),.data.u64=((uint64_t)c->gen<<32)|(unsigned)c->idx}; epoll_ctl(ep,op,c->fd,&e); }
static void conn_start(conn*c){
  c->gen++; c->inlen=0; c->outlen=c->outoff=0; c->inflight=0; c->oldest=c->tid; memset(c->slots,0,sizeof(slot)*nslots); c->want_out=1;
  c->fd=socket(dst.ss_family,SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC,0);
  if(c->fd<0){ s.connect_err++; c->state=0; err1(strerror(errno),0,0); return; }
  int one=1; setsockopt(c->fd,IPPROTO_TCP,TCP_NODELAY,&one,sizeof one);
  if(o.rcvbuf) setsockopt(c->fd,SOL_SOCKET,SO_RCVBUF,&o.rcvbuf,sizeof o.rcvbuf);
  if(o.rst_close){ struct linger l={1,0}; setsockopt(c->fd,SOL_SOCKET,SO_LINGER,&l,sizeof l); }
  if(nsrcs){ setsockopt(c->fd,IPPROTO_IP,IP_BIND_ADDRESS_NO_PORT,&one,sizeof one); if(bind(c->fd,(void*)&srcs[c->idx%nsrcs],sizeof(struct sockaddr_in))){ s.connect_err++; err1("bind source",0,0); close(c->fd); c->fd=-1; c->state=0; return; } }
  c->t_conn=now_ns();
  if(connect(c->fd,(void*)&dst,dstl)&&errno!=EINPROGRESS){ s.connect_err++; err1(strerror(errno),0,0); close(c->fd); c->fd=-1; c->state=0; return; }
  c->state=1; upd(c,EPOLL_CTL_ADD);
}
static void conn_drop(conn*c){ if(c->state==2) n_up--; if(c->fd>=0) close(c->fd); c->fd=-1; s.lost+=c->inflight; c->inflight=0; c->state=0; c->gen++;
  if(o.reconnect&&!stopping){ s.reconnects++; conn_start(c); } }

static uint8_t obuf[4096*MAXADU];
static int flush_out(conn*c,const uint8_t*b,size_t n){
  size_t done=0;
  while(done<n){ size_t k=n-done; if(o.frag&&k>(size_t)o.frag) k=o.frag; ssize_t w=send(c->fd,b+done,k,MSG_NOSIGNAL); s.writes++; if(w<0){ if(errno==EINTR) continue; if(errno==EAGAIN) break; return -1; } done+=w; s.bytes_out+=w; }
  return (int)done;
}
static int may_send(conn*c){
  if(c->inflight>=(unsigned)o.pipeline||stopping) return 0;
  if(c->slots[c->tid&mask].st==S_OUT) return 0; // straggler still holds the slot
  if(priming) return c->sent==0;
  if(o.count&&total_sent>=o.count+(o.prime?(unsigned)o.conns:0)) return 0;
  if(o.per_conn&&c->sent>=o.per_conn+(o.prime?1:0)) return 0;
  if(o.rate>0&&c->sched_k>=c->due) return 0;
  return 1;
}
static void pump(conn*c){
  if(c->state!=2||!may_send(c)) return;
  uint64_t t=now_ns(); size_t n=0;
  while(may_send(c)){
    slot*sl=&c->slots[c->tid&mask]; uint8_t*q=obuf+n; int wr=0;
    if(o.write_pct>0) wr=(rnd()>>11)*(100.0/9007199254740992.0)<o.write_pct;
    sl->tid=c->tid; sl->st=S_OUT; sl->kind=wr; sl->t_send=t;
    if(o.rate>0&&!priming){ sl->t_int=t0+(uint64_t)((c->idx+(double)c->sched_k*o.conns)*1e9/o.rate); c->sched_k++; } else sl->t_int=t;
    wr16(q,c->tid); wr16(q+2,0); q[6]=c->unit;
    if(!wr){ sl->addr=o.read_addr+(o.read_span>1?(c->sent%o.read_span):0); q[7]=o.read_fc; wr16(q+8,sl->addr); wr16(q+10,o.read_qty); wr16(q+4,6); n+=12; }
    else { sl->addr=o.write_addr+(o.write_span>1?(c->sent%o.write_span):0); q[7]=o.write_fc; wr16(q+8,sl->addr);
      switch(o.write_fc){
      case 5: sl->val=(c->sent&1)?0xff00:0; wr16(q+10,sl->val); wr16(q+4,6); n+=12; break;
      case 6: sl->val=(uint16_t)c->sent; wr16(q+10,sl->val); wr16(q+4,6); n+=12; break;
      case 15: { int nb=(o.write_qty+7)/8; sl->val=o.write_qty; wr16(q+10,o.write_qty); q[12]=nb; memset(q+13,0x55,nb); wr16(q+4,7+nb); n+=13+nb; break; }
      default: sl->val=o.write_qty; wr16(q+10,o.write_qty); q[12]=o.write_qty*2; for(int i=0;i<o.write_qty;i++) wr16(q+13+2*i,(uint16_t)(c->sent+i)); wr16(q+4,7+2*o.write_qty); n+=13+2*o.write_qty; } }
    c->tid++; c->inflight++; c->sent++; total_sent++; s.sent++;
  }
  if(c->outlen!=c->outoff){ goto queue; }
  { int w=flush_out(c,obuf,n); if(w<0){ s.resets++; err1("send failed",0,0); conn_drop(c); return; } if((size_t)w==n) return; memmove(obuf,obuf+w,n-w); n-=w; c->outlen=c->outoff=0; }
queue:
  if(c->outlen+n>c->outcap){ c->outcap=(c->outlen+n)*2; c->out=realloc(c->out,c->outcap); if(!c->out) abort(); }
  memcpy(c->out+c->outlen,obuf,n); c->outlen+=n; if(!c->want_out){ c->want_out=1; upd(c,EPOLL_CTL_MOD); }
}
// validate one frame; returns -1 when the stream cannot be trusted any more
static int on_frame(conn*c,const uint8_t*f,unsigned n,uint64_t t){
  uint16_t tid=rd16(f); slot*sl=&c->slots[tid&mask];
  if(sl->st==S_FREE||sl->tid!=tid){ s.bad_tid++; err1("unmatched transaction id",f,n); return 0; }
  if(sl->st==S_EXPIRED){ sl->st=S_FREE; s.late++; return 0; }
  sl->st=S_FREE; c->inflight--; c->answered++;
  if(tid!=c->oldest){ uint16_t x=c->oldest; while(x!=tid&&c->slots[x&mask].st!=S_OUT) x++; if(x!=tid){ s.reorder++; if(o.strict_order) err1("out of order",f,n); } }
  while(c->oldest!=c->tid&&c->slots[c->oldest&mask].st!=S_OUT) c->oldest++;
  int good=0; uint8_t fc=f[7], want=sl->kind?o.write_fc:o.read_fc; int ee=sl->kind?o.expect_exc_write:o.expect_exc_read;
  if(f[6]!=c->unit){ s.bad_unit++; err1("wrong unit",f,n); }
  else if((fc&0x7f)!=want){ s.bad_fc++; err1("wrong function code",f,n); }
  else if(fc&0x80){
    if(n!=9){ s.bad_len++; err1("exception length",f,n); }
    else { if(sl->kind) s.exc_w++; else s.exc_r++; s.exc_code[f[8]]++; good=1; if(ee>=0&&f[8]!=ee){ s.unexpected++; good=0; err1("unexpected exception",f,n); } }
  } else if(!sl->kind){
    unsigned nb=o.read_fc<=2?(unsigned)(o.read_qty+7)/8:2u*o.read_qty;
    if(n!=9+nb||f[8]!=nb){ s.bad_len++; err1("read length",f,n); }
    else { good=1; if(o.check_values&&o.read_fc>=3) for(int i=0;i<o.read_qty;i++) if(rd16(f+9+2*i)!=regval(sl->addr+i)){ s.bad_value++; good=0; err1("register value",f,n); break; }
      if(good){ s.ok_r++; if(ee>0){ s.unexpected++; good=0; err1("read succeeded, exception expected",f,n); } } }
  } else {
    if(n!=12){ s.bad_len++; err1("write response length",f,n); }
    else if(rd16(f+8)!=sl->addr||rd16(f+10)!=sl->val){ s.bad_value++; err1("write echo",f,n); }
    else { s.ok_w++; good=1; if(ee>0){ s.unexpected++; good=0; err1("write succeeded, exception expected",f,n); } }
  }
  if(measuring){ meas_all++; if(good) meas_ok++; hadd(&H,t>sl->t_int?t-sl->t_int:0); if(o.rate>0) hadd(&HS,t-sl->t_send); }
  return 0;
}
static uint8_t rb[RB+MAXADU];
static void on_read(conn*c){
  memcpy(rb,c->in,c->inlen); ssize_t n=recv(c->fd,rb+c->inlen,RB,0); s.reads++;
  if(n<0){ if(errno==EAGAIN||errno==EINTR) return; s.resets++; err1(strerror(errno),0,0); conn_drop(c); return; }
  if(n==0){ s.eofs++; err1("closed by peer",0,0); conn_drop(c); return; }
  s.bytes_in+=n; uint64_t t=now_ns(); size_t len=c->inlen+n, off=0;
  while(len-off>=8){ const uint8_t*f=rb+off; unsigned L=rd16(f+4); if(rd16(f+2)!=0||L<3||L>254){ s.bad_frame++; err1("bad MBAP",f,len-off); conn_drop(c); return; } if(len-off<6+L) break; if(on_frame(c,f,6+L,t)){ conn_drop(c); return; } off+=6+L; }
  c->inlen=len-off; memcpy(c->in,rb+off,c->inlen);
  pump(c);
}
static void on_sig(int x){ (void)x; sigstop=1; }
static int parse_addr(const char*a,struct sockaddr_storage*ss,socklen_t*sl){ char h[256]; const char*c=strrchr(a,':'); if(!c||(size_t)(c-a)>=sizeof h) return -1; memcpy(h,a,c-a); h[c-a]=0; char*hp=h; if(*hp=='['){ hp++; char*e=strchr(hp,']'); if(e)*e=0; } struct addrinfo hi={.ai_socktype=SOCK_STREAM},*r; if(getaddrinfo(hp,c+1,&hi,&r)) return -1; memcpy(ss,r->ai_addr,r->ai_addrlen); *sl=r->ai_addrlen; freeaddrinfo(r); return 0; }
static void json_str(const char*x){ putchar('"'); for(;*x;x++){ if(*x=='"'||*x=='\\') putchar('\\'); if((unsigned char)*x>=32) putchar(*x); } putchar('"'); }

int main(int argc,char**argv){
  enum{ O_T=256,O_C,O_P,O_D,O_N,O_PC,O_W,O_R,O_SPIN,O_HOLD,O_RAMP,O_U,O_RF,O_RA,O_RQ,O_RS,O_WP,O_WF,O_WA,O_WQ,O_WS,O_SEED,O_FRAG,O_CV,O_SO,O_ER,O_EW,O_TO,O_CT,O_RC,O_SRC,O_CPU,O_RST,O_RB,O_PID,O_L,O_H,O_TOL,O_PRIME };
  static struct option lo[]={{"target",1,0,O_T},{"connections",1,0,O_C},{"pipeline",1,0,O_P},{"duration",1,0,O_D},{"count",1,0,O_N},{"per-conn-count",1,0,O_PC},{"warmup",1,0,O_W},{"rate",1,0,O_R},{"spin",0,0,O_SPIN},{"hold",1,0,O_HOLD},{"ramp",1,0,O_RAMP},{"units",1,0,O_U},{"read-fc",1,0,O_RF},{"read-addr",1,0,O_RA},{"read-qty",1,0,O_RQ},{"read-span",1,0,O_RS},{"write-pct",1,0,O_WP},{"write-fc",1,0,O_WF},{"write-addr",1,0,O_WA},{"write-qty",1,0,O_WQ},{"write-span",1,0,O_WS},{"seed",1,0,O_SEED},{"frag",1,0,O_FRAG},{"check-values",0,0,O_CV},{"strict-order",0,0,O_SO},{"expect-read-exc",1,0,O_ER},{"expect-write-exc",1,0,O_EW},{"timeout-ms",1,0,O_TO},{"connect-timeout-ms",1,0,O_CT},{"reconnect",0,0,O_RC},{"src",1,0,O_SRC},{"cpu",1,0,O_CPU},{"rst-close",0,0,O_RST},{"rcvbuf",1,0,O_RB},{"proc-pid",1,0,O_PID},{"label",1,0,O_L},{"hist-out",1,0,O_H},{"tolerate",1,0,O_TOL},{"prime",0,0,O_PRIME},{"help",0,0,'h'},{0,0,0,0}};
  o.ramp=256; int ch; while((ch=getopt_long(argc,argv,"h",lo,0))!=-1) switch(ch){
    case O_T:o.target=optarg;break; case O_C:o.conns=atoi(optarg);break; case O_P:o.pipeline=atoi(optarg);break; case O_D:o.duration=atof(optarg);break; case O_N:o.count=strtoull(optarg,0,10);break; case O_PC:o.per_conn=strtoull(optarg,0,10);break;
    case O_W:o.warmup=atof(optarg);break; case O_R:o.rate=atof(optarg);break; case O_SPIN:o.spin=1;break; case O_HOLD:o.hold=atof(optarg);break; case O_RAMP:o.ramp=atof(optarg);break; case O_U:o.units=optarg;break;
    case O_RF:o.read_fc=atoi(optarg);break; case O_RA:o.read_addr=atoi(optarg);break; case O_RQ:o.read_qty=atoi(optarg);break; case O_RS:o.read_span=atoi(optarg);break; case O_WP:o.write_pct=atof(optarg);break; case O_WF:o.write_fc=atoi(optarg);break; case O_WA:o.write_addr=atoi(optarg);break; case O_WQ:o.write_qty=atoi(optarg);break; case O_WS:o.write_span=atoi(optarg);break;
    case O_SEED:o.seed=strtoull(optarg,0,10);break; case O_FRAG:o.frag=atoi(optarg);break; case O_CV:o.check_values=1;break; case O_SO:o.strict_order=1;break; case O_ER:o.expect_exc_read=atoi(optarg);break; case O_EW:o.expect_exc_write=atoi(optarg);break; case O_TO:o.timeout_ms=atof(optarg);break; case O_CT:o.connect_timeout_ms=atof(optarg);break; case O_RC:o.reconnect=1;break;
    case O_SRC:o.src=optarg;break; case O_CPU:o.cpu=atoi(optarg);break; case O_RST:o.rst_close=1;break; case O_RB:o.rcvbuf=atoi(optarg);break; case O_PID: if(o.npids<32) o.pids[o.npids++]=atoi(optarg); break; case O_L:o.label=optarg;break; case O_H:o.hist_out=optarg;break; case O_TOL:o.tol=atoi(optarg);break; case O_PRIME:o.prime=1;break;
    case 'h':usage(stdout);return 0; default:usage(stderr);return 2; }
  if(optind!=argc||o.conns<1||o.pipeline<1||o.pipeline>4096||(o.read_fc<1||o.read_fc>4)||(o.write_fc!=5&&o.write_fc!=6&&o.write_fc!=15&&o.write_fc!=16)||o.read_qty<1||o.read_qty>(o.read_fc<=2?2000:125)||o.write_qty<1||o.write_qty>(o.write_fc==15?1968:123)||o.ramp<1){ usage(stderr); return 2; }
  if(o.duration<=0&&!o.count&&!o.per_conn) o.duration=5;
  if(o.count||o.per_conn) o.warmup=0;
  if(parse_addr(o.target,&dst,&dstl)){ fprintf(stderr,"bad --target\n"); return 2; }
  { char*u=strdup(o.units),*sv,*t=strtok_r(u,",",&sv); for(;t;t=strtok_r(0,",",&sv)){ int a,b; if(sscanf(t,"%d-%d",&a,&b)!=2) a=b=atoi(t); for(;a<=b&&nunits<256;a++) units[nunits++]=a; } if(!nunits) units[nunits++]=1; }
  if(o.src){ char*u=strdup(o.src),*sv,*t=strtok_r(u,",",&sv); for(;t&&nsrcs<64;t=strtok_r(0,",",&sv)){ struct sockaddr_in*x=(void*)&srcs[nsrcs++]; x->sin_family=AF_INET; if(inet_pton(AF_INET,t,&x->sin_addr)!=1){ fprintf(stderr,"bad --src\n"); return 2; } } }
  struct rlimit rl; getrlimit(RLIMIT_NOFILE,&rl); if(rl.rlim_max<200000){ struct rlimit r2={200000,200000}; if(!setrlimit(RLIMIT_NOFILE,&r2)) rl=r2; } rl.rlim_cur=rl.rlim_max; setrlimit(RLIMIT_NOFILE,&rl);
  if(o.cpu>=0){ cpu_set_t cs; CPU_ZERO(&cs); CPU_SET(o.cpu,&cs); sched_setaffinity(0,sizeof cs,&cs); }
  prctl(PR_SET_TIMERSLACK,1000); signal(SIGPIPE,SIG_IGN); struct sigaction sa={.sa_handler=on_sig}; sigaction(SIGINT,&sa,0); sigaction(SIGTERM,&sa,0);
  rng=o.seed*0x9E3779B97F4A7C15ull+1; for(nslots=4;nslots<2u*o.pipeline;nslots*=2){} mask=nslots-1;
  C=calloc(o.conns,sizeof*C); for(int i=0;i<o.conns;i++){ C[i].idx=i; C[i].fd=-1; C[i].unit=units[i%nunits]; C[i].tid=(uint16_t)(i*7919u+o.seed); C[i].slots=calloc(nslots,sizeof(slot)); }
  ep=epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event ev[512]; int next=0, nconnecting=0, phase=0; // phase 0 connect, 1 run, 2 drain, 3 hold
  uint64_t tstart=now_ns(), tconn=0, tscan=tstart, tdrain=0, thold=0, t_conn_done=0, tprime0=0, tprime=0; int established=0;
  long rss=0,hwm=0;
  for(;;){
    uint64_t t=now_ns();
    if(sigstop&&(phase<2||phase>3)){ stopping=1; phase=2; tdrain=t; if(measuring){ measuring=0; t_end=t; proc_sample(&P1);} }
    if(phase==0){
      nconnecting=0; if(next<o.conns||!established){ for(int i=0;i<next;i++) if(C[i].state==1) nconnecting++; }
      while(next<o.conns&&nconnecting<o.ramp){ conn_start(&C[next]); if(C[next].state==1) nconnecting++; next++; }
      if(next==o.conns){ int waiting=0; for(int i=0;i<o.conns;i++) if(C[i].state==1) waiting++; if(!waiting){ established=1; t_conn_done=t; tconn=t-tstart;
        if(!n_up){ err1("no connection could be made",0,0); break; }
        phase=o.prime?4:5; tprime0=now_ns(); if(o.prime){ priming=1; for(int i=0;i<o.conns;i++) pump(&C[i]); } } }
    }
    if(phase==4){ int left=0; for(int i=0;i<o.conns;i++) if(C[i].state==2&&(C[i].answered<1&&C[i].inflight)){ left=1; break; } if(!left){ priming=0; tprime=now_ns()-tprime0; phase=5; } }
    if(phase==5){ phase=1; t0=t=now_ns(); t_measure=t0+(uint64_t)(o.warmup*1e9); if(o.warmup<=0){ measuring=1; t_measure=t0; proc_sample(&P0); } if(o.rate<=0) for(int i=0;i<o.conns;i++) pump(&C[i]); }
    if(phase==1){
      if(!measuring&&t>=t_measure){ measuring=1; proc_sample(&P0); t_measure=now_ns(); }
      if(o.duration>0&&measuring&&t>=t_measure+(uint64_t)(o.duration*1e9)){ measuring=0; t_end=t; proc_sample(&P1); stopping=1; phase=2; tdrain=t; }
      else if(o.count&&total_sent>=o.count+(o.prime?(unsigned)o.conns:0)){ uint64_t inf=0; for(int i=0;i<o.conns;i++) inf+=C[i].inflight; if(!inf){ measuring=0; t_end=t; proc_sample(&P1); stopping=1; phase=2; tdrain=t; } }
      else if(o.per_conn){ int left=0; for(int i=0;i<o.conns;i++) if(C[i].state&&(C[i].sent<o.per_conn+(o.prime?1:0)||C[i].inflight)) { left=1; break; } if(!left){ measuring=0; t_end=t; proc_sample(&P1); stopping=1; phase=2; tdrain=t; } }
      if(n_up==0&&!o.reconnect){ if(measuring){ measuring=0; t_end=t; proc_sample(&P1);} break; }
      if(o.rate>0&&!stopping){ for(;;){ uint64_t ti=t0+(uint64_t)((double)sched_cursor*1e9/o.rate); if(ti>t) break; if(o.count&&sched_cursor>=o.count) break; conn*c=&C[sched_cursor%o.conns]; sched_cursor++; c->due++; pump(c); } }
    }
    if(phase==2){ uint64_t inf=0; for(int i=0;i<o.conns;i++) inf+=C[i].inflight; if(!inf||t>tdrain+(uint64_t)(o.timeout_ms*1e6)+100000000ull){ phase=3; thold=t; } }
    if(phase==3&&t>=thold+(uint64_t)(o.hold*1e9)) break;
    if(t>tscan+20000000ull){ tscan=t; uint64_t lim=(uint64_t)(o.timeout_ms*1e6);
      for(int i=0;i<o.conns;i++){ conn*c=&C[i]; if(c->state==1&&t>c->t_conn+(uint64_t)(o.connect_timeout_ms*1e6)){ s.connect_timeout++; err1("connect timeout",0,0); close(c->fd); c->fd=-1; c->state=0; c->gen++; }
        if(c->state==2&&c->inflight){ int any=0; for(uint16_t x=c->oldest;x!=c->tid;x++){ slot*sl=&c->slots[x&mask]; if(sl->st==S_OUT&&sl->tid==x){ if(t>sl->t_send+lim){ sl->st=S_EXPIRED; c->inflight--; s.timeouts++; any=1; err1("response timeout",0,0); } else break; } } if(any){ while(c->oldest!=c->tid&&c->slots[c->oldest&mask].st!=S_OUT) c->oldest++; pump(c); } } } }
    struct timespec ts={0,20000000}; if(phase==1&&o.rate>0&&!stopping){ uint64_t ti=t0+(uint64_t)((double)sched_cursor*1e9/o.rate); t=now_ns(); uint64_t w=ti>t?ti-t:0; if(o.spin) w=0; if(w<20000000ull) ts.tv_nsec=w; }
    if(phase==1&&(!measuring||o.duration>0)){ uint64_t b=measuring?t_measure+(uint64_t)(o.duration*1e9):t_measure; t=now_ns(); uint64_t w=b>t?b-t:0; if(w<(uint64_t)ts.tv_nsec) ts.tv_nsec=w; }
    int n=epoll_pwait2(ep,ev,512,&ts,0); if(n<0&&errno!=EINTR){ perror("epoll"); return 1; }
    for(int i=0;i<n;i++){ conn*c=&C[(unsigned)ev[i].data.u64]; if(c->gen!=(uint32_t)(ev[i].data.u64>>32)||c->fd<0) continue;
      if(c->state==1){ if(!(ev[i].events&(EPOLLOUT|EPOLLERR|EPOLLHUP))) continue; int e=0; socklen_t l=sizeof e; getsockopt(c->fd,SOL_SOCKET,SO_ERROR,&e,&l); if(e){ s.connect_err++; err1(strerror(e),0,0); close(c->fd); c->fd=-1; c->state=0; c->gen++; continue; } c->state=2; n_up++; c->want_out=0; upd(c,EPOLL_CTL_MOD); if(phase==1) pump(c); continue; }
      if(ev[i].events&EPOLLOUT&&c->outlen!=c->outoff){ int w=flush_out(c,c->out+c->outoff,c->outlen-c->outoff); if(w<0){ s.resets++; err1("send failed",0,0); conn_drop(c); continue; } c->outoff+=w; if(c->outoff==c->outlen){ c->outoff=c->outlen=0; c->want_out=0; upd(c,EPOLL_CTL_MOD); } }
      if(ev[i].events&(EPOLLIN|EPOLLHUP|EPOLLERR|EPOLLRDHUP)) on_read(c);
    }
  }
  (void)t_conn_done; (void)now_c;
  if(o.hold>0||1){ for(int i=0;i<o.npids;i++){ rss+=proc_kb(o.pids[i],"VmRSS:"); hwm+=proc_kb(o.pids[i],"VmHWM:"); } }
  double el=t_measure&&t_end>t_measure?(t_end-t_measure)/1e9:0; 
  uint64_t err=s.unexpected+s.bad_frame+s.bad_tid+s.bad_unit+s.bad_fc+s.bad_len+s.bad_value+(o.strict_order?s.reorder:0)+s.resets+s.eofs+s.timeouts+s.connect_err+s.connect_timeout+s.lost;
  struct rusage ru; getrusage(RUSAGE_SELF,&ru); double own=(ru.ru_utime.tv_sec+ru.ru_stime.tv_sec)*1e6+ru.ru_utime.tv_usec+ru.ru_stime.tv_usec;
  printf("{\"tool\":\"mbload\""); if(o.label){ printf(",\"label\":"); json_str(o.label); }
  printf(",\"connections\":%d,\"established\":%d,\"pipeline\":%d,\"rate\":%.0f,\"elapsed_s\":%.4f,\"tx\":%"PRIu64",\"tps\":%.1f,\"good_tx\":%"PRIu64",\"sent\":%"PRIu64",\"ok_read\":%"PRIu64",\"ok_write\":%"PRIu64",\"exc_read\":%"PRIu64",\"exc_write\":%"PRIu64",\"exc_codes\":{",o.conns,n_up,o.pipeline,o.rate,el,meas_all,el>0?meas_all/el:0,meas_ok,s.sent,s.ok_r,s.ok_w,s.exc_r,s.exc_w);
  int fst=1; for(int i=0;i<256;i++) if(s.exc_code[i]){ printf("%s\"%d\":%"PRIu64,fst?"":",",i,s.exc_code[i]); fst=0; }
  printf("},\"errors_total\":%"PRIu64",\"errors\":{\"unexpected\":%"PRIu64",\"bad_frame\":%"PRIu64",\"bad_tid\":%"PRIu64",\"bad_unit\":%"PRIu64",\"bad_fc\":%"PRIu64",\"bad_len\":%"PRIu64",\"bad_value\":%"PRIu64",\"connect\":%"PRIu64",\"connect_timeout\":%"PRIu64",\"lost\":%"PRIu64"},\"reorder\":%"PRIu64",\"resets\":%"PRIu64",\"eofs\":%"PRIu64",\"timeouts\":%"PRIu64",\"late\":%"PRIu64",\"reconnects\":%"PRIu64,err,s.unexpected,s.bad_frame,s.bad_tid,s.bad_unit,s.bad_fc,s.bad_len,s.bad_value,s.connect_err,s.connect_timeout,s.lost,s.reorder,s.resets,s.eofs,s.timeouts,s.late,s.reconnects);
  printf(",\"connect_s\":%.4f,\"prime_s\":%.4f,\"lat_us\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"p9999\":%.1f,\"max\":%.1f,\"mean\":%.1f}",tconn/1e9,tprime/1e9,hq(&H,.5),hq(&H,.9),hq(&H,.99),hq(&H,.999),hq(&H,.9999),H.max/1000.0,H.n?H.sum/H.n/1000:0);
  if(o.rate>0) printf(",\"svc_us\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"p9999\":%.1f,\"max\":%.1f,\"mean\":%.1f}",hq(&HS,.5),hq(&HS,.9),hq(&HS,.99),hq(&HS,.999),hq(&HS,.9999),HS.max/1000.0,HS.n?HS.sum/HS.n/1000:0);
  if(o.npids){ double cpu=(P1.cpu-P0.cpu)/1e3; uint64_t du=P1.u-P0.u,ds=P1.sy-P0.sy; printf(",\"proc\":{\"cpu_us_per_tx\":%.3f,\"cpu_pct\":%.1f,\"user_pct\":%.0f,\"rss_kb\":%ld,\"hwm_kb\":%ld}",meas_all?cpu/meas_all:0,el>0?cpu/el/1e4:0,du+ds?100.0*du/(du+ds):0,rss,hwm); }
  printf(",\"own_cpu_us\":%.0f,\"bytes_in\":%"PRIu64",\"bytes_out\":%"PRIu64",\"reads\":%"PRIu64",\"writes\":%"PRIu64,own,s.bytes_in,s.bytes_out,s.reads,s.writes);
  if(first_err){ printf(",\"first_error\":"); json_str(first_err); } printf("}\n");
  if(o.hist_out){ FILE*f=fopen(o.hist_out,"w"); if(f){ for(unsigned i=0;i<HB;i++) if(H.b[i]) fprintf(f,"%.3f %"PRIu64"\n",hval(i)/1000.0,H.b[i]); fclose(f); } }
  return (err>(uint64_t)o.tol||(s.ok_r+s.ok_w+s.exc_r+s.exc_w)==0)?1:0;
}
