/**
 * Controls of the standards that a conduit's gateway bears on, each with the points of a report that speak for it. What
 * a gateway cannot show (who a person is, whether a door is locked) is said beside it.
 */
import type { ReportFacts } from './facts.ts'
import { type Point, type PointName, points } from './points.ts'

export interface Control {
  id: string
  title: string
  points: readonly PointName[]
  /** What no gateway can show of it. */
  beyond: string
}

export interface Framework {
  name: string
  controls: readonly Control[]
}

const control = (id: string, title: string, names: PointName[], beyond = ''): Control => ({
  id,
  title,
  points: names,
  beyond,
})

export const FRAMEWORKS: readonly Framework[] = [
  {
    name: 'IEC 62443-3-3:2013',
    controls: [
      control(
        'SR 1.1',
        'Human user identification and authentication',
        ['people'],
        'people are identified by other systems; a conduit sees addresses, and certificates where OPC UA has them',
      ),
      control(
        'SR 1.2',
        'Software process and device identification and authentication',
        ['channels', 'rules'],
        'Modbus/TCP identifies devices by address alone',
      ),
      control('SR 2.1', 'Authorization enforcement', ['boundary', 'rules', 'filtering']),
      control('SR 2.8', 'Auditable events', ['records', 'forwarding']),
      control(
        'SR 2.9',
        'Audit storage capacity',
        ['recordFailure'],
        'free space is watched by the machine that the gateway runs on',
      ),
      control('SR 2.10', 'Response to audit processing failures', ['recordFailure', 'forwarding']),
      control('SR 2.11', 'Timestamps', ['clock']),
      control('SR 3.1', 'Communication integrity', ['channels', 'inspection']),
      control('SR 3.5', 'Input validation', ['inspection', 'filtering']),
      control('SR 3.9', 'Protection of audit information', ['protectedRecords']),
      control(
        'SR 5.1',
        'Network segmentation',
        ['zones', 'safety', 'validated', 'findings'],
        'physical separation is seen by people',
      ),
      control('SR 5.2', 'Zone boundary protection', ['boundary', 'rules', 'validated', 'oneWay']),
      control(
        'SR 5.3',
        'General purpose person-to-person communication restrictions',
        ['boundary', 'inspection'],
        'mail and chat are blocked only where nothing but the gateway leads across',
      ),
      control(
        'SR 6.1',
        'Audit log accessibility',
        ['records', 'forwarding'],
        'who may read the records is set on the machines that hold them',
      ),
      control('SR 6.2', 'Continuous monitoring', ['monitoring', 'forwarding']),
      control('SR 7.1', 'Denial of service protection', ['limits', 'boundary']),
      control('SR 7.6', 'Network and security configuration settings', ['configuration', 'findings', 'claims']),
      control('SR 7.7', 'Least functionality', ['rules', 'filtering', 'validated']),
    ],
  },
  {
    name: 'NIST SP 800-53 Rev. 5',
    controls: [
      control('AC-4', 'Information Flow Enforcement', ['boundary', 'rules', 'filtering', 'oneWay']),
      control('AU-2', 'Event Logging', ['records', 'forwarding']),
      control('AU-9', 'Protection of Audit Information', ['protectedRecords']),
      control(
        'CA-2',
        'Control Assessments',
        ['validated', 'filtering'],
        'an assessment also needs assessors who are independent',
      ),
      control('CM-6', 'Configuration Settings', ['configuration', 'findings']),
      control(
        'PE-3',
        'Physical Access Control',
        ['premises'],
        'doors and cabinets are attested by people; nothing here measures them',
      ),
      control('SC-5', 'Denial-of-service Protection', ['limits']),
      control('SC-7', 'Boundary Protection', ['boundary', 'rules', 'validated', 'safety', 'inspection']),
      control('SC-8', 'Transmission Confidentiality and Integrity', ['channels']),
      control('SI-4', 'System Monitoring', ['monitoring', 'records', 'forwarding']),
      control('SI-10', 'Information Input Validation', ['inspection', 'filtering']),
    ],
  },
  {
    name: 'NIST CSF 2.0',
    controls: [
      control('ID.AM-03', 'Representations of authorized network communication and data flows are maintained', [
        'zones',
        'rules',
        'configuration',
      ]),
      control(
        'PR.AA-05',
        'Access permissions are defined in a policy, managed, enforced and reviewed',
        ['rules', 'boundary', 'claims'],
        'reviews are held by people',
      ),
      control('PR.IR-01', 'Networks and environments are protected from unauthorized logical access and usage', [
        'boundary',
        'validated',
        'safety',
        'filtering',
      ]),
      control('PR.PS-04', 'Log records are generated and made available for continuous monitoring', [
        'records',
        'forwarding',
        'protectedRecords',
      ]),
      control('DE.CM-01', 'Networks and network services are monitored to find potentially adverse events', [
        'monitoring',
        'forwarding',
        'inspection',
      ]),
    ],
  },
  {
    name: 'ISO/IEC 27001:2022 Annex A',
    controls: [
      control('A.7.2', 'Physical entry', ['premises'], 'attested by people; nothing here measures it'),
      control('A.8.9', 'Configuration management', ['configuration', 'findings']),
      control('A.8.15', 'Logging', ['records', 'protectedRecords']),
      control('A.8.16', 'Monitoring activities', ['monitoring', 'forwarding']),
      control('A.8.17', 'Clock synchronization', ['clock']),
      control('A.8.20', 'Networks security', ['boundary', 'rules', 'inspection']),
      control('A.8.21', 'Security of network services', ['channels', 'limits', 'validated']),
      control('A.8.22', 'Segregation of networks', ['zones', 'safety', 'validated']),
    ],
  },
  {
    name: 'SOC 2 (2017 Trust Services Criteria)',
    controls: [
      control(
        'CC6.1',
        'Logical access security over protected information assets',
        ['boundary', 'rules', 'filtering'],
        'accounts of people are not seen here',
      ),
      control(
        'CC6.4',
        'Physical access to facilities and protected information assets',
        ['premises'],
        'attested by people; nothing here measures it',
      ),
      control('CC6.6', 'Logical access security against threats from outside the system boundaries', [
        'boundary',
        'validated',
        'limits',
      ]),
      control('CC7.1', 'Detection and monitoring of configuration changes and vulnerabilities', [
        'configuration',
        'monitoring',
        'findings',
      ]),
      control('CC7.2', 'Monitoring of system components for anomalies', ['monitoring', 'records', 'forwarding']),
    ],
  },
]

export interface ControlFacts extends Point {
  id: string
  title: string
}

export interface FrameworkFacts {
  name: string
  controls: ControlFacts[]
}

/** For each control, what this report shows for it and what is missing. */
export function compliance(facts: ReportFacts): FrameworkFacts[] {
  const made = points(facts)
  return FRAMEWORKS.map(({ name, controls }) => ({
    name,
    controls: controls.map(({ id, title, points: names, beyond }) => ({
      id,
      title,
      shown: [...new Set(names.flatMap((one) => made[one].shown))],
      missing: [...new Set([...names.flatMap((one) => made[one].missing), ...(beyond === '' ? [] : [beyond])])],
    })),
  }))
}
