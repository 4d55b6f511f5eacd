"""Every request that pymodbus can make, to one server: `HOST PORT SOURCE`. Prints a JSON line for each answer."""

import json
import sys

from pymodbus import diag_message, file_message, mei_message, other_message
from pymodbus.client import ModbusTcpClient

UNIT = 1
host, port, source = sys.argv[1], int(sys.argv[2]), sys.argv[3]
client = ModbusTcpClient(host, port=port, source_address=(source, 0), timeout=5)
if not client.connect():
    sys.exit("cannot connect")


def say(name, answer):
    line = {"name": name, "exception": getattr(answer, "exception_code", None)}
    if answer.isError() and line["exception"] is None:
        line["lost"] = str(answer)
    for key in ("registers", "bits", "information"):
        value = getattr(answer, key, None)
        if value is not None:
            line[key] = {k: v.decode() for k, v in value.items()} if isinstance(value, dict) else value
    print(json.dumps(line), flush=True)


def ask(name, request):
    request.unit_id = UNIT
    say(name, client.execute(request))


say("read coils", client.read_coils(0, 10, slave=UNIT))
say("read discrete inputs", client.read_discrete_inputs(0, 10, slave=UNIT))
say("read holding registers", client.read_holding_registers(0, 10, slave=UNIT))
say("read input registers", client.read_input_registers(0, 10, slave=UNIT))
ask("read exception status", other_message.ReadExceptionStatusRequest())
ask("event counter", other_message.GetCommEventCounterRequest())
ask("event log", other_message.GetCommEventLogRequest())
ask("report server id", other_message.ReportSlaveIdRequest())
ask("read fifo queue", file_message.ReadFifoQueueRequest(4))
ask("device identification", mei_message.ReadDeviceInformationRequest(1, 0))
say("write coil", client.write_coil(50, True, slave=UNIT))
say("write coils", client.write_coils(50, [True] * 10, slave=UNIT))
say("write register", client.write_register(50, 7, slave=UNIT))
say("write registers", client.write_registers(50, [7, 8], slave=UNIT))
say("mask write register", client.mask_write_register(60, 0xF2, 0x25, slave=UNIT))
say(
    "read write registers",
    client.readwrite_registers(
        read_address=0, read_count=2, write_address=50, write_registers=[1, 2], slave=UNIT
    ),
)
record = file_message.FileRecord(file_number=4, record_number=1, record_data=b"\x00\x01")
ask("write file record", file_message.WriteFileRecordRequest([record]))
ask("return query data", diag_message.ReturnQueryDataRequest(0x1234))
ask("clear counters", diag_message.ClearCountersRequest())
client.close()
