// Calls a service over xds:/// without a pause and tells once every 100 ms how it went.
//
// Each line of the output is a JSON object with totals: calls by the version that answered,
// failures, and the last failure's text.

const { createRequire } = require('module');
// The packages lie where they were installed, not beside this file.
const packages = createRequire(`${process.env.SEGUE_NODE_MODULES}/`);
const grpc = packages('@grpc/grpc-js');
packages('@grpc/grpc-js-xds').register();

const CALLERS = 4;
const totals = { versions: {}, failed: 0, error: '' };
const client = new grpc.Client(process.argv[2], grpc.credentials.createInsecure());
const raw = (bytes) => bytes;

function call() {
  const deadline = new Date(Date.now() + 10_000);
  client.makeUnaryRequest('/echo.Echo/Say', raw, raw, Buffer.alloc(0), { deadline }, (error, version) => {
    if (error) {
      totals.failed += 1;
      totals.error = `${error.code}: ${error.details}`;
    } else {
      totals.versions[version] = (totals.versions[version] ?? 0) + 1;
    }
    setTimeout(call, 5);
  });
}

// Only the first call waits for the configuration.
client.waitForReady(new Date(Date.now() + 30_000), (error) => {
  if (error) {
    totals.failed += 1;
    totals.error = String(error);
  }
  for (let i = 0; i < CALLERS; i += 1) call();
});
setInterval(() => console.log(JSON.stringify(totals)), 100);
