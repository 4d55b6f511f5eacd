# syntax=docker/dockerfile:1

# Build: the compiler and the tests' packages stay behind in this stage.
FROM node:24-bookworm-slim AS build
WORKDIR /build
COPY package.json package-lock.json ./
# The pinned runtime among the dev dependencies is the image's own here.
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY scripts ./scripts
COPY src ./src
RUN node scripts/build.ts
RUN npm ci --ignore-scripts --omit=dev

FROM node:24-bookworm-slim
ENV NODE_ENV=production
WORKDIR /headgate
COPY --from=build /build/node_modules ./node_modules
COPY --from=build /build/dist ./dist
COPY package.json LICENSE README.md ./
COPY bin ./bin
COPY policies ./policies
# Evidence and spool, where the policy asks for them, belong on a volume; a new one takes its owner from here.
RUN install -d -o node -g node -m 750 /var/lib/headgate
VOLUME ["/var/lib/headgate"]
# No shell, package manager or superuser is needed after this: run with --read-only --cap-drop=ALL, and
# --cap-add=NET_BIND_SERVICE (or --sysctl net.ipv4.ip_unprivileged_port_start=502) for port 502.
USER node
# Modbus/TCP, and the metrics page of the policy.
EXPOSE 502 9464
# The metrics page tells whether traffic is carried; set HEADGATE_HEALTH where the policy has it elsewhere.
ENV HEADGATE_HEALTH=http://127.0.0.1:9464/readyz
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
  CMD ["node", "-e", "fetch(process.env.HEADGATE_HEALTH).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# The process is PID 1 and handles SIGTERM (drain and stop) and SIGHUP (reload) itself.
STOPSIGNAL SIGTERM
ENTRYPOINT ["node", "bin/headgate.js"]
CMD ["run", "/etc/headgate/policy.yaml"]
